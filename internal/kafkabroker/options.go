package kafkabroker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// HomeVariable is the environment variable that names the directory with Kafka's jars to tests.
const HomeVariable = "WSD_TEST_KAFKA"

// brokersMax bounds a cluster: each broker is a process of some hundred MB.
const brokersMax = 5

// Options are what a cluster is made of.
type Options struct {
	Home    string // Holds lib/, with Kafka's jars, and perhaps a class archive (see Prepare).
	Dir     string // Empty or not there: data, settings and logs of the brokers.
	Brokers int    // 1 to 5. Default 1.
	Port    int    // Of broker 1 for plain text; the others have those that follow. Default: free ones.
	HeapMB  int    // Of each broker. Default 512.

	Users      map[string]string // By name their password, for SASL PLAIN and SCRAM. Empty: no listener with SASL.
	TLS        bool              // Whether there is a listener with TLS.
	Properties map[string]string // Settings of the brokers beside ours, or instead of them.

	archive string // Where to write a class archive when the only broker ends.
}

// word is what a user's name and password may be: it stands in Kafka's settings without quotes.
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
		return o, fmt.Errorf("%d brokers: 1 to %d are possible", o.Brokers, brokersMax)
	case o.HeapMB < 128:
		return o, fmt.Errorf("a heap of %d MB is too small for Kafka: at least 128", o.HeapMB)
	case o.Home == "":
		return o, errors.New("no directory with Kafka's jars is named: run make kafka-fetch")
	case o.Dir == "":
		return o, errors.New("no directory for the brokers' data is named")
	}
	for name, password := range o.Users {
		if !word.MatchString(name) || !word.MatchString(password) {
			return o, fmt.Errorf("user %q: a name and a password here are of letters, digits, _ and -", name)
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
