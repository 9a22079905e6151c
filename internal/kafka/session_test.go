package kafka

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// loggedIn connects to a broker on which a login lasts for lifetime milliseconds.
func loggedIn(t *testing.T, lifetime string, renewed func()) (*kfake.Cluster, *Conn) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"),
		kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": lifetime}))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	d := &Dialer{SASL: plain.Mechanism{Username: "u", Password: "p"}, DialTimeout: time.Minute,
		RequestTimeout: time.Minute, ResponseMax: 1 << 20, Reauthenticated: renewed}
	k, err := d.Dial(t.Context(), c.ListenAddrs()[0])
	require.NoError(t, err)
	t.Cleanup(k.Close)
	return c, k
}

func ask(k *Conn) error {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 4
	_, err := k.Request(req, new(kmsg.MetadataResponse), 0)
	return err
}

// older makes the connection old enough for its end to be none of a fault.
func (c *Conn) older() { c.opened = c.opened.Add(-quickEnd) }

func TestLogsInAgainOnTheOpenConnection(t *testing.T) {
	logins := 0
	c, k := loggedIn(t, "60000", func() { logins++ })
	left := time.Until(k.session.renewAt)
	require.InDelta(t, 54, left.Seconds(), 4, "85 to 95 percent")
	require.NoError(t, ask(k))
	require.Zero(t, logins, "not due")
	dials := 0
	c.ControlKey(int16(kmsg.ApiVersions), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		dials++
		return nil, nil, false
	})
	for i := range 3 {
		k.session.renewAt = time.Now()
		require.NoError(t, ask(k))
		require.Equal(t, i+1, logins)
	}
	require.Zero(t, dials, "it is the same connection")
	require.Greater(t, time.Until(k.session.renewAt), 40*time.Second)
}

func TestLoginWithoutLimit(t *testing.T) {
	_, k := loggedIn(t, "0", nil)
	require.True(t, k.session.renewAt.IsZero())
	_, k = loggedIn(t, "9223372036854775807", nil)
	require.WithinRange(t, k.session.renewAt, time.Now().Add(lifetimeMax*8/10), time.Now().Add(lifetimeMax))
	_, k = loggedIn(t, "1", nil)
	require.Greater(t, time.Until(k.session.renewAt), renewPause/2, "Kafka refuses two logins within a second")
}

// A broker that cannot do it, or refuses, ends the connection and nothing else.
func TestLoginAgainRefused(t *testing.T) {
	for what, key := range map[string]int16{
		"handshake": int16(kmsg.SASLHandshake), "password": int16(kmsg.SASLAuthenticate),
	} {
		c, k := loggedIn(t, "60000", nil)
		require.NoError(t, ask(k))
		c.ControlKey(key, func(req kmsg.Request) (kmsg.Response, error, bool) {
			resp := req.ResponseKind()
			switch r := resp.(type) {
			case *kmsg.SASLHandshakeResponse:
				r.ErrorCode = 34 // What Kafka says while a connection is logged in without limit.
			case *kmsg.SASLAuthenticateResponse:
				r.ErrorCode = 58
			}
			return resp, nil, true
		})
		k.session.renewAt = time.Now()
		k.older()
		err := ask(k)
		require.ErrorContains(t, err, "log in again on the open connection", what)
		require.True(t, HasEnded(err), what)
	}
}

// A broker that does not answer a login on the open connection is frozen: that is a fault, and not of the credentials.
func TestLoginAgainNotAnswered(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.SASLHandshake, kmsg.SASLAuthenticate} {
		c, k := loggedIn(t, "60000", nil)
		require.NoError(t, ask(k))
		stop := make(chan struct{})
		t.Cleanup(func() { close(stop) })
		c.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.SleepControl(func() { <-stop })
			return nil, nil, false
		})
		k.session.renewAt = time.Now()
		k.SetTimeout(50 * time.Millisecond)
		k.deadline = time.Time{}
		k.older()
		err := ask(k)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, key.Name())
		require.Equal(t, ErrorTimeout, KindOf(err), key.Name())
		require.False(t, HasEnded(err), key.Name())
		require.NotContains(t, err.Error(), "credentials")
	}
}

// A broker may ask for a pause that is longer than the login's life. After it, the connection logs in first.
func TestPauseLongerThanLogin(t *testing.T) {
	logins := 0
	_, k := loggedIn(t, "2000", func() { logins++ })
	require.NoError(t, ask(k))
	k.throttledUntil = time.Now().Add(3 * time.Second)
	require.NoError(t, ask(k))
	require.NotZero(t, logins)
	require.Zero(t, k.Throttled())
}

// The end of a connection is none of a fault only if the connection worked, for some time, and ends between responses.
func TestEnds(t *testing.T) {
	closeNext := func(c *kfake.Cluster) {
		c.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, io.EOF, true })
	}
	c, k := loggedIn(t, "0", nil)
	closeNext(c)
	k.older()
	err := ask(k)
	require.ErrorIs(t, err, io.EOF)
	require.False(t, HasEnded(err), "it never worked")

	c, k = loggedIn(t, "0", nil)
	require.NoError(t, ask(k))
	closeNext(c)
	require.False(t, HasEnded(ask(k)), "it is too young: whoever connects again immediately would do so for ever")

	c, k = loggedIn(t, "0", nil)
	require.NoError(t, ask(k))
	k.older()
	closeNext(c)
	err = ask(k)
	require.True(t, HasEnded(err))
	require.ErrorContains(t, Describe("ask", err), "the broker closed the connection")
	require.Equal(t, ErrorDisconnect, KindOf(err))

	k, err = (&Dialer{DialTimeout: time.Minute, RequestTimeout: time.Minute, ResponseMax: 1 << 20}).
		Dial(t.Context(), dripBroker(t, 100_000, 100, -1))
	require.NoError(t, err)
	t.Cleanup(k.Close)
	k.served = 1
	k.older()
	err = ask(k)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.False(t, HasEnded(err), "a response was cut off")
}

// What a mechanism advises is part of the error, and its exchange learns of the refusal.
func TestAdvice(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = 58
		return resp, nil, true
	})
	m := &advising{}
	d := &Dialer{SASL: m, DialTimeout: time.Minute, ResponseMax: 1 << 20}
	_, err = d.Dial(t.Context(), c.ListenAddrs()[0])
	require.ErrorContains(t, err, "(check the moon)")
	require.Equal(t, ErrorAuth, KindOf(err))
	require.True(t, m.refused)
}

// advising is a mechanism that has advice. It is its own exchange.
type advising struct{ refused bool }

func (*advising) Name() string   { return "PLAIN" }
func (*advising) Advice() string { return "the moon" }
func (a *advising) Refused()     { a.refused = true }

func (a *advising) Start(context.Context) (sasl.StateMachine, []byte, error) {
	return a, []byte("x"), nil
}

func (*advising) Next(context.Context, []byte) (bool, []byte, error) { return true, nil, nil }
