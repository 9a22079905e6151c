package source

import (
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/scram"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafkaauth"
	"wsd/internal/kafkatest"
)

// undisturbed polls for a condition as eventually does, and wants that the source finds nothing wrong meanwhile. Before
// that, a broker may not have known a new topic yet.
func (r *rig) undisturbed(t testing.TB, cond func() bool) {
	t.Helper()
	errors := func() (n uint64) {
		for kind := range r.Stats().FetchErrors {
			n += r.Stats().FetchErrors[kind].Load()
		}
		return n + r.Stats().MetadataErrors.Load()
	}
	warnings, failed := r.logs.count("level=WARN"), errors()
	eventually(t, func() bool {
		st := r.Status()
		require.Empty(t, st.Error, "%s", r.logs)
		for _, b := range st.Brokers {
			require.True(t, b.Connected, "%s", r.logs)
			require.Empty(t, b.Error, "%s", r.logs)
		}
		for _, ts := range st.Topics {
			require.True(t, ts.Current, "%s", r.logs)
		}
		return cond()
	}, func() string { return r.logs.String() })
	require.Equal(t, warnings, r.logs.count("level=WARN"), "%s", r.logs)
	require.Equal(t, failed, errors())
}

// logInAgain reads while logins last for seconds only. All connections stay what they are, and nothing is wrong.
func logInAgain(t *testing.T, k *kafkatest.Cluster, m sasl.Mechanism, times uint64) {
	t.Helper()
	topic := k.Topic(t, 2)
	ch := channels(topic, 2)
	cl := k.Client(t)
	o := reading(k, topic)
	o.SASL = m
	r := startRig(t, o, ch...)
	r.waitCurrent(t)
	reconnects := r.Stats().Reconnects.Load()
	var want []string
	for n := uint64(1); n <= times; n++ {
		r.undisturbed(t, func() bool { return r.Stats().Reauthentications.Load() >= 3*n })
		value := numbered(int(n), int(n)+1)
		produce(t, cl, topic, 0, value...)
		want = append(want, value...)
		r.wantLog(t, ch[0], want)
	}
	require.Equal(t, reconnects, r.Stats().Reconnects.Load(), "%s", r.logs)
	r.wantIntact(t)
}

func sessionsSuite(t *testing.T, plainText *kafkatest.Cluster) {
	k := plainText.SASL(t)
	t.Run("scram", func(t *testing.T) {
		logInAgain(t, k, mustScram(t, scram.SHA512, kafkatest.User, kafkatest.Password), 3)
	})
	t.Run("tokens of an endpoint", func(t *testing.T) {
		k.Needs(t, kafkatest.OAuth)
		// A fifth of the life, which is what a token has at least, must last longer than renewPause of package kafka.
		logInAgain(t, k, kafkaauth.OAuthBearer(tokensOf(t, 8*time.Second), nil, ""), 2)
	})
	t.Run("token of a file", func(t *testing.T) {
		k.Needs(t, kafkatest.OAuth)
		var read atomic.Int64
		tokens := kafkaauth.File(func() string {
			read.Add(1)
			return kafkatest.Token(t, kafkatest.User, time.Now().Add(6*time.Second))
		})
		logInAgain(t, k, kafkaauth.OAuthBearer(tokens, nil, ""), 1)
		require.Greater(t, read.Load(), int64(3))
	})
	t.Run("refused token", func(t *testing.T) {
		k.Needs(t, kafkatest.OAuth)
		for _, token := range []string{kafkatest.Token(t, kafkatest.User, time.Now().Add(-time.Hour)), "not.a.token"} {
			o := reading(k, k.Topic(t, 1))
			o.SASL = kafkaauth.OAuthBearer(kafkaauth.File(func() string { return token }), nil, "the token")
			r := startRig(t, o)
			eventually(t, func() bool { return r.Stats().MetadataErrors.Load() > 2 }, func() string { return "no error" })
			require.Contains(t, r.Status().Error, "OAUTHBEARER")
			require.Contains(t, r.Status().Error, "(check the token)")
			require.Contains(t, r.Status().Error, "invalid_token")
			require.NotContains(t, r.logs.String(), token)
		}
	})
}

// tokensOf returns tokens of an endpoint, each with the life.
func tokensOf(t *testing.T, life time.Duration) kafkaauth.Tokens {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, secret, _ := r.BasicAuth(); id != "wsd" || secret != "hush" {
			http.Error(w, "who?", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"access_token": kafkatest.Token(t, kafkatest.User, time.Now().Add(life)), "expires_in": int(life.Seconds()),
		})
	}))
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return kafkaauth.NewEndpoint(kafkaauth.EndpointOptions{URL: server.URL, ClientID: "wsd", Logger: slog.New(slog.DiscardHandler),
		Secret: func() string { return "hush" }, CAs: func() *x509.CertPool { return pool }})
}

// A broker that closes connections, for instance because they are idle, is no fault: the next connection works.
func TestExpectedEnds(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.Metadata} {
		t.Run(key.Name(), func(t *testing.T) {
			c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
			r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}}, "a")
			r.waitCurrent(t)
			closed := closeSome(c, key)
			r.undisturbed(t, func() bool { return closed.Load() >= 2 && r.Stats().Reconnects.Load() >= 2 })
		})
	}
}

// closeSome closes the connection at a request that comes two seconds after the last one that it closed. It counts them.
func closeSome(c *kfake.Cluster, key kmsg.Key) *atomic.Int64 {
	var closed atomic.Int64
	last := time.Now()
	c.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if time.Since(last) < 2*time.Second {
			return nil, nil, false
		}
		last = time.Now()
		closed.Add(1)
		return nil, io.EOF, true
	})
	return &closed
}
