package shard

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/wire"
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

// Answers for many channels of one client come together, and are more than may wait for it: the first replies have them
// whole, the others are streamed, and no client is slow for it.
func TestRecoverManyChannels(t *testing.T) {
	const channels, records, size = 8, 5, 6 << 10
	p := newPastRig(t, func(o *Options) { o.Limits.OutboundMax = 64 << 10 })
	c := p.large(channels, records, size)
	for range channels {
		p.past.answer(bus.ResultOK)
	}
	p.past.auto()
	p.step()
	p.offset = records
	p.past.records = append(p.past.records, record(records+1, "6"))
	p.publish("c7", "6")
	next := map[string]int{}
	p.during(func() {
		for through := 0; through < channels; {
			event, text, err := c.next()
			if err != nil || event != wire.EventText {
				t.Errorf("event %v, error %v", event, err)
				return
			}
			for line := range strings.SplitSeq(text, "\n") {
				if line == "{}" {
					c.send(ws.OpText, "{}")
					continue
				}
				channel, offsets := offsetsIn(t, line)
				for _, offset := range offsets {
					if next[channel]++; offset != next[channel] {
						t.Errorf("offset %d of %s, want %d", offset, channel, next[channel])
						return
					}
				}
				want := records
				if channel == "c7" {
					want++
				}
				if len(offsets) > 0 && next[channel] == want {
					through++
				}
			}
		}
	})
	require.Zero(t, p.reason(ReasonSlow))
	require.Zero(t, p.shard.sender.parkedBytes)
	require.Empty(t, p.shard.recoveries.waiting)
}

// offsetsIn returns the channel and the offsets of the publications in a push or a reply to a subscribe command.
func offsetsIn(t *testing.T, line string) (channel string, offsets []int) {
	t.Helper()
	type pub struct{ Offset int }
	var m struct {
		ID   int
		Push struct {
			Channel string
			Pub     *pub
		}
		Subscribe struct {
			Recovered    bool
			Publications []pub
		}
	}
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Errorf("%v: %.100q", err, line)
	}
	if m.Push.Pub != nil {
		return m.Push.Channel, []int{m.Push.Pub.Offset}
	}
	if m.ID > 0 && !m.Subscribe.Recovered {
		t.Errorf("not recovered: %.200q", line)
	}
	for _, p := range m.Subscribe.Publications {
		offsets = append(offsets, p.Offset)
	}
	return fmt.Sprint("c", m.ID-10), offsets
}

// asksHistory has a client ask for the history of a with some large records, n times, and be answered.
func (p *pastRig) asksHistory(n, records, size int) *client {
	p.t.Helper()
	p.past.records = nil
	for i := range records {
		p.past.records = append(p.past.records, record(uint64(i)+1, `{"x":"`+strings.Repeat("x", size)+`"}`))
	}
	p.place.set("a", uint64(records)) // Small.
	c := p.joined()
	for i := range n {
		p.say(c, fmt.Sprintf(`{"id":%d,"history":{"channel":"a","limit":-1}}`, i+10))
		p.past.answer(bus.ResultOK)
	}
	return c
}

// A client that reads nothing keeps history replies waiting: their bytes are bounded, and beyond that it gets an error.
func TestHistoryAnswersWait(t *testing.T) {
	const records, size = 5, 60 << 10
	p := newPastRig(t, func(o *Options) { o.Limits.OutboundMax = 64 << 10 })
	var clients []*client
	for range 8 {
		clients = append(clients, p.asksHistory(8, records, size))
		p.step()
		require.LessOrEqual(t, p.shard.sender.parkedBytes, parkedMany*p.shard.opts.Limits.OutboundMax)
	}
	require.Positive(t, p.shard.sender.parkedBytes)
	for _, c := range clients {
		require.NoError(t, c.conn.Close())
	}
	for p.shard.Stats().Clients.Load() > 0 {
		p.step()
	}
	require.Zero(t, p.shard.sender.parkedBytes)
	require.Empty(t, p.shard.flows.bySlot)
}

// A turn takes answers up to a number of bytes, those that came first before the others.
func TestAnswersPerTurn(t *testing.T) {
	const size = 60 << 10
	p := newPastRig(t, nil)
	var clients []*client
	p.shard.opts.Recovery.HistoryMax = 5
	for range 4 {
		c := p.joined()
		clients = append(clients, c)
	}
	for i := range 5 {
		p.past.records = append(p.past.records, record(uint64(i)+1, `{"x":"`+strings.Repeat("x", size)+`"}`))
	}
	p.place.set("a", 5)
	for _, c := range clients {
		p.say(c, `{"id":5,"history":{"channel":"a","limit":-1}}`)
	}
	for range clients {
		p.past.answer(bus.ResultOK)
	}
	for n := range clients {
		require.EqualValues(t, n, p.shard.Stats().Histories.Load())
		more, _ := p.shard.turnOver(false)
		require.Equal(t, n < len(clients)-1, more)
	}
	for _, c := range clients {
		require.Contains(t, p.hearAll(c), `"history":{"publications":[`)
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
	require.JSONEq(t, `{"id":5,"subscribe":{"recoverable":true,"epoch":"another","offset":5,"positioned":true,"was_recovering":true}}`, p.hear(waits))
	p.offset = 5
	p.publish("a", "6")
	for _, c := range []*client{old, waits, fresh} {
		require.Equal(t, push(6), p.hear(c))
	}
}
