package shard

import (
	"net"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// A client that sends its ClientHello byte by byte costs three reads, however many bytes it has, and is answered. One
// that ends in the middle is noticed.
func TestTLSTrickledHello(t *testing.T) {
	r := newStepped(t, func(o *Options) { o.TLS.Handshakes = newHandshakes(t) })
	hello := clientHello(t)
	c := r.openPlain()
	reads := 0
	for i := range hello {
		c.write(hello[i : i+1])
		before := r.shard.stats.BytesIn.Load()
		for range 3 {
			r.step()
		}
		if r.shard.stats.BytesIn.Load() != before {
			reads++
		}
	}
	// The client's kernel holds back such small segments until they are acknowledged, which nobody does who does not read.
	last := r.shard.stats.BytesIn.Load()
	eventually(t, "read", func() bool {
		r.step()
		now := r.shard.stats.BytesIn.Load()
		if now != last {
			reads, last = reads+1, now
		}
		return now == uint64(len(hello))
	})
	require.LessOrEqual(t, reads, 3)
	r.during(func() {
		record, err := c.in.ReadByte()
		require.NoError(t, err)
		require.EqualValues(t, recordType, record)
	})

	half := r.openPlain()
	half.write(hello[:100])
	for r.shard.connections < 2 {
		r.step()
	}
	require.NoError(t, half.conn.Close())
	eventually(t, "it is closed", func() bool { r.step(); return r.shard.connections == 1 })
}

// trickling is a connection whose writes come byte by byte.
type trickling struct{ net.Conn }

func (c trickling) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// Clients whose every byte comes alone are served like others.
func TestTLSTrickledClient(t *testing.T) {
	r := newTLSRig(t, nil)
	for name, config := range tlsConfigs() {
		c := r.openPlain()
		c.conn = trickling{c.conn}
		require.NoError(t, startTLS(c, config).Handshake(), name)
		c.upgrade(r, "/ws?channel=a")
		r.publish("a", "text")
		require.Equal(t, "text", c.message(wire.EventText), name)
		c.send(ws.OpPing, "payload")
		require.Equal(t, "payload", c.message(wire.EventPong), name)
	}
}
