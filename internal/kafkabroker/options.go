package kafkabroker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// HomeVariable is the environment variable with the directory of Kafka's jars, for tests.
const HomeVariable = "WSD_TEST_KAFKA"

// brokersMax bounds a cluster, because each broker takes several hundred MB.
const brokersMax = 5

// Options is what a cluster is built from.
type Options struct {
	Home    string // The directory that has lib/ with Kafka's jars, and maybe a class archive (see Prepare).
	Dir     string // The directory for the brokers' data, settings and logs. It must be empty or must not exist.
	Brokers int    // 1 to 5. Default 1.
	// The plain-text port of broker 1. The other brokers have the ports that follow. Default: free ports.
	Port int
	// A second plain-text listener of the only broker as HOST:PORT, for clients in other networks. Default: none.
	Listen string
	HeapMB int // The heap of each broker. Default 512.

	// The users' passwords by name, for SASL PLAIN and SCRAM. Empty means no SASL listener.
	Users map[string]string
	// A set of keys (RFC 7517). If it is set, users may also log in by OAUTHBEARER, with tokens that are signed with
	// one of them. It needs Users.
	JWKS       string
	TLS        bool              // Whether there is a TLS listener, and with Users one for SASL over TLS.
	Properties map[string]string // Settings of the brokers, in addition to the default ones or in their place.

	archive string // Where the only broker writes a class archive when it ends.
}

// word is what a user's name and password may be, because Kafka's settings have them without quotes.
var word = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (o Options) withDefaults() (Options, error) {
	if o.Brokers == 0 {
		o.Brokers = 1
	}
	if o.HeapMB == 0 {
		o.HeapMB = 512
	}
	switch {
	case o.Brokers < 1 || o.Brokers > brokersMax:
		return o, fmt.Errorf("%d brokers: there may be 1 to %d", o.Brokers, brokersMax)
	case o.Listen != "" && o.Brokers > 1:
		return o, fmt.Errorf("%s cannot be the address of %d brokers: leave one of both out", o.Listen, o.Brokers)
	case o.HeapMB < 128:
		return o, fmt.Errorf("a heap of %d MB is too small for Kafka: at least 128", o.HeapMB)
	case o.Home == "":
		return o, errors.New("the directory with Kafka's jars is not set: run make kafka-fetch")
	case o.Dir == "":
		return o, errors.New("the directory for the brokers' data is not set")
	}
	if o.JWKS != "" && len(o.Users) == 0 {
		return o, errors.New("keys for OAUTHBEARER need at least one user, without whom there is no SASL listener")
	}
	for name, password := range o.Users {
		if !word.MatchString(name) || !word.MatchString(password) {
			return o, fmt.Errorf("user %q: a name or password may have letters, digits, _ and - only", name)
		}
	}
	if jars, err := filepath.Glob(filepath.Join(o.Home, "lib", "kafka_*.jar")); err != nil || len(jars) != 1 {
		return o, fmt.Errorf("%s has no Kafka in lib: run make kafka-fetch", o.Home)
	}
	if entries, err := os.ReadDir(o.Dir); err == nil && len(entries) > 0 {
		return o, fmt.Errorf("%s is not empty: name another directory for the brokers' data", o.Dir)
	}
	var err error
	if o.Home, err = filepath.Abs(o.Home); err != nil {
		return o, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return o, err
	}
	return o, os.MkdirAll(o.Dir, 0o755)
}
