package shard

import (
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// later moves the clock of a stepped rig, and turns the loop over.
func (r *rig) later(d time.Duration) {
	r.shard.start = r.shard.start.Add(-d)
	r.step()
}

// A client that has been connected for the longest time is told to come back, give or take a tenth of it. What waits
// for it arrives before.
func TestAge(t *testing.T) {
	const age = time.Hour
	dryOrNot(t, func(t *testing.T, dry bool) {
		t.Helper()
		r := newStepped(t, func(o *Options) { o.Quotas.Limits[QuotaAge] = QuotaLimit{int64(age), dry} })
		var raw, protocol *client
		r.during(func() { raw, protocol = r.dial("/ws?channel=a"), r.join("a") })
		for range 5 {
			r.later(age / 6)
		}
		require.EqualValues(t, 2, r.shard.Stats().Clients.Load())
		require.Zero(t, r.exceeded(QuotaAge))
		r.publish("a", "1")
		for range 100 {
			r.later(time.Minute)
		}
		require.EqualValues(t, 2, r.exceeded(QuotaAge), "once for each")
		require.Equal(t, "1", raw.message(wire.EventText))
		require.Contains(t, protocol.message(wire.EventText), `"pub":{`)
		if dry {
			require.EqualValues(t, 2, r.shard.Stats().Clients.Load())
			return
		}
		var codes [2]uint16
		var texts [2]string
		r.during(func() {
			codes[0], texts[0] = closeOf(protocol)
			codes[1], texts[1] = closeOf(raw)
		})
		require.Equal(t, [2]uint16{3011, 1012}, codes)
		require.Equal(t, [2]string{"force reconnect", "connected for long enough, reconnect"}, texts)
		eventually(t, "closed", func() bool { r.step(); return r.reason(ReasonAge) == 2 })
	})
}

// closeOf reads a close frame.
func closeOf(c *client) (uint16, string) {
	payload := c.message(wire.EventClose)
	code, text, _ := wire.CloseCode([]byte(payload))
	return code, text
}

// Clients that came together do not go together: their ends are spread over a fifth of the age, and however they are
// spread, a tick ends at most twice as many as an even spread would.
func TestAgeIsPaced(t *testing.T) {
	const age, clients = 1000 * tickLength, 50
	r := newStepped(t, func(o *Options) { o.Quotas.Limits[QuotaAge] = QuotaLimit{Max: int64(age)} })
	var all []*client
	r.during(func() {
		for range clients {
			all = append(all, r.dial("/ws?channel=a"))
		}
	})
	ends := map[uint32]bool{}
	for i := range all {
		end := r.shard.places.of(uint32(i)).endsAt
		ends[end] = true
		require.InDelta(t, 1000, int(end-r.shard.tick), 150)
		r.shard.places.of(uint32(i)).endsAt = r.shard.tick + 10 // They meet nevertheless.
	}
	require.Greater(t, len(ends), clients/2)
	r.shard.slab.each(func(c *conn) {
		c.deadline = r.shard.tick + 10
		r.shard.wheel.rearm(c)
	})
	r.later(10 * tickLength)
	require.EqualValues(t, 1, r.exceeded(QuotaAge), "50 clients in 1,000 ticks are fewer than one a tick")
	eventually(t, "all closed", func() bool { r.later(tickLength); return r.exceeded(QuotaAge) == clients })
	require.Equal(t, 6, func() (n int) {
		var p agePace
		for p.allows(7, 2500, 1000) {
			n++
		}
		return n
	}())
}

// A client of the protocol without a subscription is told to go, and one that has one is not, however often it changes
// its mind. Its time begins with the connect command, and again with the end of the last subscription.
func TestIdle(t *testing.T) {
	const idle = 10 * time.Minute
	dryOrNot(t, func(t *testing.T, dry bool) {
		t.Helper()
		r := newStepped(t, func(o *Options) { o.Quotas.Limits[QuotaIdle] = QuotaLimit{int64(idle), dry} })
		var never, once, has *client
		r.during(func() { never, once, has = r.join(), r.join("a"), r.join("a"); r.dial("/ws?channel=a") })
		r.later(idle / 2)
		r.during(func() {
			once.send(ws.OpText, `{"id":9,"unsubscribe":{"channel":"a"}}`)
			once.message(wire.EventText)
		})
		r.later(idle * 3 / 4)
		require.EqualValues(t, 1, r.exceeded(QuotaIdle), "the one that never had one")
		if !dry {
			r.during(func() {
				code, text := closeOf(never)
				require.EqualValues(t, 3503, code)
				require.Equal(t, "force disconnect", text)
			})
		}
		r.later(idle / 2)
		require.EqualValues(t, 2, r.exceeded(QuotaIdle), "the one that has none any longer")
		for range 5 {
			r.later(idle)
		}
		require.EqualValues(t, 2, r.exceeded(QuotaIdle))
		r.during(func() {
			has.send(ws.OpText, `{"id":9,"rpc":{}}`)
			require.Contains(t, has.message(wire.EventText), `{"id":9,`)
		})
	})
}

// Where no quota needs it, nothing stands beside the connections.
func TestNoPlacesWithoutNeed(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Quotas.Limits[QuotaHandshakes].Max = 100
		o.Quotas.Limits[QuotaChannels].Max = 100
	})
	r.dial("/ws?channel=a")
	r.join("a")
	require.Nil(t, r.shard.places.list)
	require.Nil(t, r.shard.channels.alone)
	require.Zero(t, r.shard.opts.Quotas.Connections())
}
