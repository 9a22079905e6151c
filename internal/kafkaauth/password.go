package kafkaauth

import (
	"context"
	"errors"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// Plain returns the mechanism PLAIN (RFC 4616). It asks for the password at each login.
func Plain(username string, password func() string) sasl.Mechanism {
	return &passwordMechanism{name: plain.Mechanism{}.Name(), password: password,
		with: func(p string) (sasl.Mechanism, error) {
			return plain.Mechanism{Username: username, Password: p}, nil
		}}
}

// The hash functions of SCRAM.
var (
	SHA256 = scram.SHA256
	SHA512 = scram.SHA512
)

// SCRAM returns the mechanism SCRAM-SHA-256 or SCRAM-SHA-512 (RFC 5802). It asks for the password at each login. A user
// name or password with characters that SASLprep forbids makes logins fail, see CheckSCRAM.
func SCRAM(hash scram.Algorithm, username string, password func() string) sasl.Mechanism {
	return &passwordMechanism{name: hash.Name(), password: password,
		with: func(p string) (sasl.Mechanism, error) {
			m, err := scram.Mechanism(hash, username, p)
			if err != nil {
				return nil, errSASLprep
			}
			return m, nil
		}}
}

// errSASLprep replaces an error that contains the password.
var errSASLprep = errors.New("the user name or the password has a character that SCRAM does not allow (SASLprep, " +
	"RFC 4013)")

// CheckSCRAM returns an error if SCRAM cannot use the user name or the password.
func CheckSCRAM(username, password string) error {
	if _, err := scram.Mechanism(scram.SHA256, username, password); err != nil {
		return errSASLprep
	}
	return nil
}

// passwordMechanism makes a mechanism for each login.
type passwordMechanism struct {
	name     string
	password func() string
	with     func(password string) (sasl.Mechanism, error)
}

// Name implements sasl.Mechanism.
func (m *passwordMechanism) Name() string { return m.name }

// Start implements sasl.Mechanism.
func (m *passwordMechanism) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	login, err := m.with(m.password())
	if err != nil {
		return nil, nil, err
	}
	return login.Start(ctx)
}
