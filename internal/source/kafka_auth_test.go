package source

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
	"github.com/stretchr/testify/require"

	"wsd/internal/kafkatest"
)

func saslSuite(t *testing.T, plainText *kafkatest.Cluster) {
	k := plainText.SASL(t)
	topic := k.Topic(t, 2)
	ch := channels(topic, 2)
	cl := k.Client(t)
	produce(t, cl, topic, 0, "1", "2")
	produce(t, cl, topic, 1, "3")
	const wrong = "secret-but-wrong"
	for name, of := range map[string]func(user, password string) sasl.Mechanism{
		"plain":         func(u, p string) sasl.Mechanism { return plain.Mechanism{Username: u, Password: p} },
		"scram-sha-256": func(u, p string) sasl.Mechanism { return mustScram(t, scram.SHA256, u, p) },
		"scram-sha-512": func(u, p string) sasl.Mechanism { return mustScram(t, scram.SHA512, u, p) },
	} {
		t.Run(name, func(t *testing.T) {
			o := reading(k, topic)
			o.SASL = of(kafkatest.User, kafkatest.Password)
			r := startRig(t, o, ch...)
			r.wantLog(t, ch[0], []string{"1", "2"})
			r.wantLog(t, ch[1], []string{"3"})
		})
		for what, m := range map[string]sasl.Mechanism{"wrong password": of(kafkatest.User, wrong), "unknown user": of("nobody", wrong)} {
			t.Run(name+" "+what, func(t *testing.T) {
				o := reading(k, topic)
				o.Brokers, o.SASL = o.Brokers[:1], m
				r := startRig(t, o)
				eventually(t, func() bool { return r.Stats().MetadataErrors.Load() > 2 }, func() string { return "no error" })
				require.Equal(t, 1, r.logs.count("cannot be read"), "one line, not one a try")
				require.Contains(t, r.logs.String(), "kind=auth")
				require.Contains(t, r.Status().Error, m.Name())
				require.Contains(t, r.Status().Error, "check kafka.sasl.username")
				require.NotContains(t, r.Status().Error, "unexpected EOF")
				require.NotContains(t, r.logs.String(), wrong)
				require.False(t, r.Ready())
			})
		}
	}
	t.Run("none configured", func(t *testing.T) {
		o := reading(k, topic)
		o.Brokers = o.Brokers[:1]
		r := startRig(t, o)
		eventually(t, func() bool { return r.Stats().MetadataErrors.Load() > 2 }, func() string { return "no error" })
		require.Contains(t, r.Status().Error, "closed the connection")
	})
}

func tlsSuite(t *testing.T, plainText *kafkatest.Cluster) {
	k := plainText.OverTLS(t)
	topic := k.Topic(t, 2)
	ch := channels(topic, 2)
	cl := k.Client(t)
	produce(t, cl, topic, 0, "1", "2")
	produce(t, cl, topic, 1, "3")
	r := startRig(t, reading(k, topic), ch...)
	r.wantLog(t, ch[0], []string{"1", "2"})
	r.wantLog(t, ch[1], []string{"3"})

	for name, c := range map[string]struct {
		at   *kafkatest.Cluster
		tls  *tls.Config
		says string
	}{
		"plain text to a TLS port": {k, nil, "TLS"},
		"unknown authority":        {k, &tls.Config{MinVersion: tls.VersionTLS12}, "certificate"},
		"TLS to a plain text port": {plainText, k.TLS, "TLS handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			o := reading(c.at, topic)
			o.TLS, o.DialTimeout = always(c.tls), time.Second
			r := startRig(t, o)
			eventually(t, func() bool { return r.Status().Error != "" }, func() string { return "no error" })
			require.Contains(t, r.Status().Error, c.says)
			require.False(t, r.Ready())
		})
	}
}
