package shard

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// What was merged of a channel that the client leaves does not come behind the reply, also where there is room for what
// was merged of others.
func TestMergedOfLeftChannel(t *testing.T) {
	s := newSender(1 << 20)
	s.layouts = &layouts{messageMax: 1 << 20}
	o := &outbox{}
	s.setMerge(o, &merge{newest: make(map[mergeKey]int)})
	before := o.merge.cost
	o.merge.put(merged{[]byte("left"), mergeKey{1, "k"}})
	o.merge.put(merged{[]byte("stays"), mergeKey{2, "k"}})
	s.add(o, o.merge.cost-before)
	s.dropChannel(o, 1)
	require.Len(t, o.chunks, 1)
	require.Equal(t, "stays", string(o.chunks[0].bytes))
	require.EqualValues(t, 1, s.counts.dropped)
	require.Equal(t, o.chunks[0].cost(), o.cost)
}

// When connections hold too much, those that hold most are closed first, and the others go on.
func TestLargestHoldersAreClosed(t *testing.T) {
	notByTLS(t, "its answers pass 90 % of the limit by how much plain sockets take of them")
	const clients, limit = 8, 1 << 20
	memory := &Memory{Limit: limit}
	p := newPastRig(t, func(o *Options) {
		o.Memory, o.Recovery.BytesMax, o.Recovery.HistoryMax = memory, 512<<10, 100
		o.Limits.OutboundMax, o.Limits.ChannelsMax = 8<<20, 10
	})
	value := fmt.Sprintf(`{"pad":%q}`, strings.Repeat("v", 8<<10))
	for n := 1; n <= 20; n++ {
		p.past.records = append(p.past.records, record(uint64(n), value))
	}
	p.place.set("a", 20)
	p.past.auto()
	var list []*client
	p.during(func() {
		for range clients {
			list = append(list, p.join("shared"))
		}
	})
	ask := func(c *client) { c.send(ws.OpText, `{"id":5,"history":{"channel":"a","limit":20}}`) }
	for range 100 {
		for _, c := range list[:2] {
			_, _ = c.conn.Write(masked(`{"id":5,"history":{"channel":"a","limit":20}}`)) // It may be closed.
			p.step()
		}
	}
	require.LessOrEqual(t, memory.Used(), int64(limit/100*fullPart))
	require.Positive(t, p.reason(ReasonMemory))
	for _, c := range list[4:] {
		ask(c)
		p.during(func() { require.Contains(t, c.message(wire.EventText), `"id":5`) })
	}
	require.Equal(t, p.shard.ownMemory(), memory.Used())
}

// While memory is tight, large answers are refused for now.
func TestTightMemory(t *testing.T) {
	notByTLS(t, "its limit is less than one handshake counts for")
	memory := &Memory{Limit: 1000}
	p := newPastRig(t, func(o *Options) { o.Memory = memory })
	p.numbers(1, 6)
	c := p.joined()
	memory.add(810)
	p.say(c, back(2, ""))
	require.Contains(t, p.hear(c), `"code":100,"message":"cannot recover now","temporary":true`)
	require.Zero(t, p.shard.Stats().Subscriptions.Load())
	p.say(c, `{"id":6,"history":{"channel":"a","limit":5}}`)
	require.Contains(t, p.hear(c), `"temporary":true`)
	// Also of what was asked for before.
	memory.add(-300)
	p.say(c, back(2, ""))
	p.say(c, `{"id":7,"history":{"channel":"a","limit":5}}`)
	memory.add(300)
	p.past.answer(bus.ResultOK)
	p.past.answer(bus.ResultOK)
	require.Contains(t, p.hear(c), `{"id":5,"error":{"code":100,"message":"cannot recover now","temporary":true}}`)
	require.Contains(t, p.hear(c), `{"id":7,"error":{"code":100,`)
	memory.add(-300)
	p.say(c, back(2, ""))
	p.past.answer(bus.ResultOK)
	require.Contains(t, p.hear(c), `"recovered":true`)
}

// The places of shared messages in a queue are memory of the client alone.
func TestQueuePlacesCount(t *testing.T) {
	const chunks = 1000
	s := newSender(1 << 20)
	s.holds.list = append(s.holds.list, hold{users: 1})
	o := &outbox{}
	for range chunks {
		s.push(o, chunk{bytes: []byte("shared"), hold: 1})
	}
	require.EqualValues(t, chunks*chunkOverhead, s.bytes-s.shared)
}

// What a shard may keep is right for limits of any size.
func TestPartOfLargeMemory(t *testing.T) {
	for _, limit := range []int64{1 << 20, 4 << 30, 64 << 30, 1 << 50} {
		for _, shards := range []int64{1, 4, 64} {
			used := limit / 10 * 9
			most := partOf(limit, used/shards, used)
			require.InEpsilon(t, limit/100*shedPart/shards, most, 1e-3, "%d of %d", shards, limit)
		}
	}
	require.Zero(t, partOf(1<<30, 0, 0))
}

// TLS handshakes count: clients that halt in theirs do not take the memory of the others, however many may be pending.
func TestHandshakesCountAsMemory(t *testing.T) {
	const halted, fit = 40, 10
	memory := &Memory{Limit: fit * handshakeBytes}
	r := newTLSRig(t, func(o *Options) { o.Memory = memory })
	hello := clientHello(t)
	client := r.openTLS(&tls.Config{})
	client.upgrade(r, "/ws?channel=a")
	for range halted {
		r.openPlain().write(hello)
	}
	eventually(t, "those that are too many were closed", func() bool { return r.reason(ReasonMemory) >= halted-fit })
	// A turn counts what has come before it closes what is too much.
	eventually(t, "there is room", func() bool { return memory.Used() <= memory.Limit/100*fullPart })
	r.publish("a", "1")
	require.Equal(t, "1", client.message(wire.EventText))
	require.Less(t, r.reason(ReasonMemory), uint64(halted))
}

// Requests of the server API have a part of the memory, and nothing of what clients need.
func TestReserve(t *testing.T) {
	m := &Memory{Limit: 1000}
	require.True(t, m.Reserve(200))
	require.False(t, m.Reserve(51))
	require.True(t, m.Reserve(50))
	require.EqualValues(t, 250, m.Used())
	m.Release(250)
	m.add(801)
	require.False(t, m.Reserve(1), "clients have the rest")
	m.add(-801)
	require.True(t, m.Reserve(250))
	m.Release(250)
	require.Zero(t, m.Used())
	require.Zero(t, m.Requests())
}

// Orders are bounded in bytes as well as in number, but one alone may have any size.
func TestOrdersBytesBounded(t *testing.T) {
	r := newStepped(t, nil)
	large := &Order{Kind: OrderSubscribe, User: "x", Channel: "a", Data: make([]byte, ordersBytesMax)}
	require.True(t, r.shard.PostOrder(large, nil))
	require.False(t, r.shard.PostOrder(&Order{Kind: OrderDisconnect, User: "x"}, nil))
	r.step()
	small := &Order{Kind: OrderSubscribe, User: "x", Channel: "a", Data: make([]byte, 64<<10)}
	n := 0
	for ; r.shard.PostOrder(small, nil); n++ {
	}
	require.Equal(t, ordersBytesMax/small.size(), n)
	for r.shard.orders.count > 0 {
		r.step()
	}
	require.Zero(t, r.shard.orders.bytes)
}
