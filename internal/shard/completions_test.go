package shard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
)

// large lets channels c0, c1 and so on have a stream of some records of so many bytes each, and returns a client that
// wants all of them.
func (p *pastRig) large(channels, records, size int) *client {
	p.t.Helper()
	for n := range records {
		p.past.records = append(p.past.records, record(uint64(n)+1, `{"x":"`+strings.Repeat("x", size)+`"}`))
	}
	c := p.joined()
	for i := range channels {
		p.place.set(fmt.Sprint("c", i), uint64(records)) // Small.
		p.say(c, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"c%d","recover":true,"epoch":"epoch","offset":0}}`, i+10, i))
	}
	return c
}

// Answers for many channels of one client come together, and are more than may wait for it: it gets one after the
// other as it reads.
func TestRecoverManyChannels(t *testing.T) {
	const channels, records, size = 8, 5, 6 << 10
	p := newPastRig(t, func(o *Options) { o.Limits.OutboundMax = 64 << 10 })
	c := p.large(channels, records, size)
	for range channels {
		p.past.answer(bus.ResultOK)
	}
	p.step()
	p.offset = records
	p.publish("c7", "6") // Waits behind its channel's answer.
	var got []string
	p.during(func() {
		for range channels + 1 {
			_, text, err := c.next()
			if err != nil {
				got = append(got, err.Error())
				return
			}
			got = append(got, text)
		}
	})
	require.Len(t, got, channels+1)
	joined := strings.Join(got, "\n")
	for i := range channels {
		require.Contains(t, joined, fmt.Sprintf(`{"id":%d,"subscribe":{"recoverable":true,"epoch":"epoch","publications":[`, i+10))
	}
	require.Greater(t, strings.Index(joined, `"push":{"channel":"c7"`), strings.Index(joined, `{"id":17,`))
	require.Zero(t, p.reason(ReasonSlow))
	require.Zero(t, p.shard.sender.parkedBytes)
	require.Empty(t, p.shard.recoveries.waiting)
}

// A client that reads nothing keeps answers waiting: their bytes are bounded, beyond that they are that it has not
// recovered.
func TestRecoverAnswersWait(t *testing.T) {
	const channels, records, size = 8, 5, 60 << 10
	p := newPastRig(t, func(o *Options) { o.Limits.OutboundMax = 64 << 10 })
	clients := make([]*client, 8)
	for i := range clients {
		p.past.records = nil
		clients[i] = p.large(channels, records, size)
		for range channels {
			p.past.answer(bus.ResultOK)
		}
		p.step()
		require.LessOrEqual(t, p.shard.sender.parkedBytes, parkedMany*p.shard.opts.Limits.OutboundMax)
	}
	unrecovered := p.shard.Stats().Unrecovered[RecoveryMemory].Load()
	require.Positive(t, unrecovered)
	require.Positive(t, p.shard.sender.parkedBytes)
	c := clients[0]
	c.send(ws.OpText, `{"id":99,"unsubscribe":{"channel":"c7"}}`)
	p.step()
	for _, c := range clients {
		require.NoError(t, c.conn.Close())
	}
	for p.shard.Stats().Clients.Load() > 0 {
		p.step()
	}
	require.Zero(t, p.shard.sender.parkedBytes)
	require.Empty(t, p.shard.recoveries.waiting)
}

// A turn takes answers up to a number of bytes, those that came first before the others.
func TestAnswersPerTurn(t *testing.T) {
	const size = 60 << 10
	p := newPastRig(t, nil)
	var clients []*client
	for range 4 {
		p.past.records = nil
		clients = append(clients, p.large(1, 5, size))
	}
	for range clients {
		p.past.answer(bus.ResultOK)
	}
	for n := range clients {
		require.EqualValues(t, n, p.shard.Stats().Recovered[RecoveryMemory].Load())
		more, _ := p.shard.turnOver(false)
		require.Equal(t, n < len(clients)-1, more)
	}
	for _, c := range clients {
		require.Contains(t, p.hearAll(c), `"recovered":true`)
	}
}

// hearAll returns the next message, however long it takes to be written.
func (p *pastRig) hearAll(c *client) (text string) {
	p.t.Helper()
	p.during(func() { _, text, _ = c.next() })
	return text
}

// A topic gets more partitions, so that a channel's records now come from another one, where offsets are lower: who
// is subscribed gets them, and who waits for what it missed has not recovered.
func TestRecoverAnotherEpoch(t *testing.T) {
	p := newPastRig(t, nil)
	p.offset = 1000
	p.place.set("a", 1000)
	old, waits := p.joined("a"), p.joined()
	p.say(waits, back(900, ""))
	p.place.begin("another")
	p.place.set("a", 5)
	fresh := p.joined("a")
	p.past.answer(bus.ResultOK)
	require.JSONEq(t, `{"id":5,"subscribe":{"recoverable":true,"epoch":"another","offset":5,"was_recovering":true}}`, p.hear(waits))
	p.offset = 5
	p.publish("a", "6")
	for _, c := range []*client{old, waits, fresh} {
		require.Equal(t, push(6), p.hear(c))
	}
}
