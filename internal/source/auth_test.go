package source

import (
	"testing"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func mustScram(t testing.TB, algo scram.Algorithm, user, password string) sasl.Mechanism {
	t.Helper()
	m, err := scram.Mechanism(algo, user, password)
	require.NoError(t, err)
	return m
}

// Apache Kafka says in words what is wrong; they reach the log.
func TestBrokersOwnWordsOnRefusal(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "p", "pw"))
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode, resp.ErrorMessage = 58, kmsg.StringPtr("Authentication failed: Invalid username or password")
		return resp, nil, true
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, SASL: plain.Mechanism{Username: "p", Password: "no"}})
	eventually(t, func() bool { return r.Stats().MetadataErrors.Load() > 2 }, func() string { return "no error" })
	require.Contains(t, r.Status().Error, "Invalid username or password")
	require.Contains(t, r.Status().Error, "[58]")
	require.Equal(t, 1, r.logs.count("Invalid username or password"))
}

func TestUnknownMechanismNamesTheOffered(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "p", "pw"))
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, SASL: strangeMechanism{plain.Mechanism{}}})
	eventually(t, func() bool { return r.Status().Error != "" }, func() string { return "no error" })
	require.Contains(t, r.Status().Error, "STRANGE")
	require.Contains(t, r.Status().Error, "PLAIN")
}

type strangeMechanism struct{ sasl.Mechanism }

func (strangeMechanism) Name() string { return "STRANGE" }
