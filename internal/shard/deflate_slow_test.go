package shard

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// What waits for the pool makes nobody slow.

// A pool that never answers makes no healthy client slow: once half of its limit waits for the pool alone, it goes
// out plain.
func TestDeflateHurry(t *testing.T) {
	r, d := newDeflateRig(t, func(o *Options) { o.Limits.OutboundMax = 64 << 10 })
	c := r.dialDeflate("/ws?channel=a")
	read := 0
	for i := range 40 {
		r.publish("a", jsonOf(9000, uint64(i)))
		eventually(t, "posted", func() bool { return d.posted() == i+1 })
		for ; read < i/4*4; read++ { // Four are more than half of the limit; the fifth finds them.
			require.Equal(t, jsonOf(9000, uint64(read)), c.inflated(false))
		}
	}
	require.Zero(t, r.shard.Stats().Slow[PolicyDisconnect].Load())
	for d.posted() > 0 {
		d.do(0)
	}
	for i := read; i < 40; i++ {
		event, payload, err := c.next()
		require.NoError(t, err)
		if event == wire.EventDeflatedText {
			var f wire.Inflater
			_, out, closeErr := f.Inflate(event, []byte(payload), 1<<20)
			require.Nil(t, closeErr)
			payload = string(out)
		}
		require.Equal(t, jsonOf(9000, uint64(i)), payload)
	}
}

// Nor does it make one conflate: every record arrives.
func TestDeflateConflate(t *testing.T) {
	r, d := newDeflateRig(t, func(o *Options) {
		o.Limits.OutboundMax, o.Slow = 256<<10, []SlowPolicy{{"*", PolicyConflate}}
	})
	c := r.dialDeflate("/ws?channel=a")
	const records, together = 40, 5 // The fifth finds more than the limit waiting behind the first.
	read := 0
	for i := range records {
		r.publish("a", jsonOf(9000, uint64(i)))
		eventually(t, "posted", func() bool { return d.posted() == i+1 })
		for ; read < i/together*together-together; read++ {
			require.Equal(t, jsonOf(9000, uint64(read)), c.inflated(false))
		}
	}
	for d.posted() > 0 {
		d.do(0)
	}
	for ; read < records; read++ {
		event, payload, err := c.next()
		require.NoError(t, err)
		if event == wire.EventDeflatedText {
			var f wire.Inflater
			_, out, closeErr := f.Inflate(event, []byte(payload), 1<<20)
			require.Nil(t, closeErr)
			payload = string(out)
		}
		require.Equal(t, jsonOf(9000, uint64(read)), payload)
	}
	stats := r.shard.Stats()
	require.Zero(t, stats.Slow[PolicyConflate].Load())
	require.Zero(t, stats.Conflated.Load())
}

// One that conflates is not closed either for what waits for the pool: beyond half of its limit it goes out plain.
func TestDeflateConflating(t *testing.T) {
	notByTLS(t, "it goes by what plain sockets leave in the queue")
	d := &slowDeflater{room: -1}
	r := newStepped(t, func(o *Options) {
		o.Deflate = Deflate{Deflater: d, Least: testLeast, Inline: testInline}
		o.Limits.OutboundMax, o.Slow = 64<<10, []SlowPolicy{{"c", PolicyConflate}}
	})
	var c *client
	r.during(func() { c = r.dialDeflate("/ws?channel=a&channel=c") })
	require.NoError(t, tcp(c.conn).SetReadBuffer(32<<10))
	stats := r.shard.Stats()
	keyed := func(n int) {
		r.offset++
		ch, ok := r.interest.Lookup([]byte("c"))
		require.True(t, ok)
		r.builder.AddKeyed(ch, record(r.offset, fmt.Sprintf("%0150d", n)), fmt.Append(nil, n), time.Now())
		r.seal()
		r.step()
	}
	conn := r.shard.slab.get(0)
	for !conn.out.blocked { // Until the kernel takes no more.
		r.publish("a", many(8, 190)...)
		r.step()
	}
	r.publish("a", jsonOf(9000, 1)) // Waits for the pool.
	r.step()
	n := 0
	for ; stats.Slow[PolicyConflate].Load() == 0; n++ {
		keyed(n)
	}
	buf := make([]byte, 64<<10)
	eventually(t, "only what waits for the pool is left", func() bool {
		_, _ = c.readNow(buf)
		r.step()
		return conn.out.chunks[0].deferred
	})
	require.NotNil(t, conn.out.merge, "it is not drained")
	for len(conn.out.chunks) > 0 && conn.out.chunks[0].deferred {
		n++
		keyed(n)
	}
	eventually(t, "back to normal", func() bool {
		_, _ = c.readNow(buf)
		r.step()
		return conn.out.merge == nil && conn.out.chunks == nil
	})
	require.Zero(t, stats.Slow[PolicyDisconnect].Load())
	require.True(t, conn.isClient())
}
