package shard

import (
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/stats"
	"wsd/internal/wire"
)

// With the answer http an upgrade request gets 503 and Retry-After. Load balancers still see a server that works, and
// clients that are connected notice nothing.
func TestAdmissionHTTP(t *testing.T) {
	a := NewAdmission(AnswerHTTP, false, 1500*time.Millisecond)
	r := newRig(t, func(o *Options) { o.Admission = a })
	connected := r.dial("/ws?channel=a")
	a.Refuse(100)
	seconds := map[string]bool{}
	for range 40 {
		for _, path := range []string{"/ws?channel=b", "/connection/websocket"} {
			c := r.open()
			c.write(wire.AppendClientHandshake(nil, r.address, path, "", testKey))
			status, body := c.response()
			require.Equal(t, http.StatusServiceUnavailable, status)
			require.Contains(t, body, "overloaded")
			seconds[c.header.Get("Retry-After")] = true
			_ = c.conn.Close()
		}
	}
	require.Equal(t, map[string]bool{"2": true, "3": true, "4": true}, seconds, "with chance, in whole seconds, at least as long as asked for")

	c := r.open()
	c.write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
	status, _ := c.response()
	require.Equal(t, http.StatusOK, status)
	_ = c.conn.Close()

	r.publish("a", "one")
	require.Equal(t, "one", connected.message(wire.EventText))
	require.EqualValues(t, 80, r.refused()[causeAdmission])
	stats := r.shard.Stats()
	require.EqualValues(t, 80, stats.AdmissionRefused.Load())
	require.EqualValues(t, 81, stats.AdmissionChecks.Load(), "one decision for each upgrade request")
	require.Zero(t, stats.AdmissionDryRun.Load())

	a.Refuse(0)
	r.dial("/ws?channel=b")
}

// Where the kernel cannot refuse, the shard resets what it accepts.
func TestAdmissionReset(t *testing.T) {
	a := NewAdmission(AnswerReset, false, time.Second)
	r := newRig(t, func(o *Options) { o.Admission = a })
	connected := r.dial("/ws?channel=a")
	a.Refuse(100)
	for range 20 {
		c, err := net.Dial("tcp", r.address)
		if err == nil {
			require.NoError(t, c.SetDeadline(time.Now().Add(waitMax)))
			_, err = io.ReadAll(c)
			_ = c.Close()
		}
		require.ErrorIs(t, err, unix.ECONNRESET)
	}
	eventually(t, "counted", func() bool { return r.reason(ReasonAdmission) == 20 })
	require.EqualValues(t, 20, r.shard.Stats().AdmissionRefused.Load())
	require.EqualValues(t, 21, r.shard.Stats().AdmissionChecks.Load())
	require.EqualValues(t, 1, r.shard.Stats().Connections.Load())
	a.Refuse(0)
	r.dial("/ws?channel=b")
	r.publish("a", "one")
	require.Equal(t, "one", connected.message(wire.EventText))
}

// A dry run counts whom it would refuse, and lets everybody in.
func TestAdmissionDryRun(t *testing.T) {
	for _, answer := range []Answer{AnswerReset, AnswerHTTP} {
		t.Run(strconv.Itoa(int(answer)), func(t *testing.T) {
			a := NewAdmission(answer, true, time.Second)
			r := newRig(t, func(o *Options) { o.Admission = a })
			a.Refuse(100)
			for range 10 {
				r.dial("/ws?channel=a")
			}
			require.EqualValues(t, 10, r.shard.Stats().AdmissionDryRun.Load())
			require.EqualValues(t, 10, r.shard.Stats().AdmissionChecks.Load())
			require.Zero(t, r.shard.Stats().AdmissionRefused.Load())
		})
	}
}

// A level between refuses that part, by lot.
func TestAdmissionLevel(t *testing.T) {
	a := NewAdmission(AnswerReset, false, time.Second)
	r := newStepped(t, func(o *Options) { o.Admission = a })
	const n = 100_000
	for _, level := range []int{-5, 0, 20, 70, 100, 105} {
		a.Refuse(level)
		refused := 0
		for range n {
			if !r.shard.admits(AnswerReset) {
				refused++
			}
		}
		p := max(0, min(float64(level)/100, 1))
		require.InDelta(t, n*p, refused, 7*math.Sqrt(n*p*(1-p)), "seven times the standard deviation")
		require.True(t, r.shard.admits(AnswerHTTP), "at the other place nothing is decided")
	}
}

// While wsd stops, a client that waited in the kernel learns of that, and not of an overload.
func TestAdmissionWhileStopping(t *testing.T) {
	notByTLS(t, manyReads)
	a := NewAdmission(AnswerReset, false, time.Second)
	r := newStepped(t, func(o *Options) { o.Admission = a })
	a.Refuse(100)
	c := r.open()
	c.write(wire.AppendClientHandshake(nil, r.address, "/ws?channel=a", "", testKey))
	r.shard.closeListeners()
	r.step()
	status, body := c.response()
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "because it is stopping")
}

// A long turn is counted with its length.
func TestLongTurns(t *testing.T) {
	r := newStepped(t, nil)
	var before, now, sum stats.DurationCounts
	r.shard.stats.LongTurns.Read(&before)
	r.shard.endTurn(time.Since(r.shard.start) - 5*time.Second)
	r.shard.stats.LongTurns.Read(&now)
	sum.AddSince(&now, &before)
	bucket := slices.IndexFunc(sum[:], func(b struct{ Count, Nanos uint64 }) bool { return b.Count > 0 })
	require.GreaterOrEqual(t, bucket, 0)
	require.EqualValues(t, 1, sum[bucket].Count)
	require.GreaterOrEqual(t, sum[bucket].Nanos, uint64(5*time.Second))
}
