package shard

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// past is a Recoverer that knows what the test has published, and answers when the test says so.
type past struct {
	mu      sync.Mutex
	records []bus.Record
	queries []bus.Query
	done    []func(bus.Answer)
	answers bool // At once.
}

func (p *past) Ask(q bus.Query, done func(bus.Answer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers {
		done(p.find(q))
		return
	}
	p.queries, p.done = append(p.queries, q), append(p.done, done)
}

// waiting returns the queries that have not been answered.
func (p *past) waiting() []bus.Query {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := append([]bus.Query(nil), p.queries...)
	for i := range list { // What the tests of queries do not compare.
		list[i].Owner, list[i].Canceled, list[i].BytesMax, list[i].Address = 0, nil, 0, netip.Addr{}
	}
	return list
}

// answer answers the first query that waits, with result, and if that is ResultOK with its records.
func (p *past) answer(result bus.Result) {
	p.mu.Lock()
	q, done := p.queries[0], p.done[0]
	p.queries, p.done = p.queries[1:], p.done[1:]
	a := bus.Answer{Result: result}
	if result == bus.ResultOK {
		a = p.find(q)
	}
	p.mu.Unlock()
	done(a)
}

// find answers a query from what was published.
func (p *past) find(q bus.Query) (a bus.Answer) {
	a.Through = q.UpTo
	var all []bus.Record
	for _, r := range p.records {
		if r.Offset > q.After && r.Offset <= q.UpTo {
			all = append(all, r)
		}
	}
	if q.Kind == bus.QueryLast {
		a.Records = all[max(0, len(all)-q.RecordsMax):]
		return a
	}
	if q.CountMax > 0 && len(all) > q.CountMax {
		return bus.Answer{Result: bus.ResultLimit}
	}
	bytes := 0
	for i := range all {
		bytes += bus.RecordBytes(&all[i])
		if i > 0 && (i >= q.RecordsMax || q.BytesMax > 0 && bytes > q.BytesMax) {
			a.More, a.Through = true, all[i-1].Offset
			break
		}
		a.Records = append(a.Records, all[i])
	}
	return a
}

// pastRig is a rig whose channel "a" has a stream that clients recover.
type pastRig struct {
	*rig
	past *past
}

func newPastRig(t *testing.T, change func(*Options)) *pastRig {
	t.Helper()
	p := &pastRig{past: &past{}}
	p.rig = newStepped(t, func(o *Options) {
		o.Recovery = RecoveryOptions{Recoverer: p.past, PublicationsMax: 5, HistoryMax: 5, BytesMax: 1 << 20, Cached: []string{"cached"}}
		if change != nil {
			change(o)
		}
	})
	p.place.set("a", 0)
	return p
}

// numbers publishes the numbers as records of a, whoever wants them.
func (p *pastRig) numbers(from, to int) {
	p.t.Helper()
	for n := from; n < to; n++ {
		p.past.records = append(p.past.records, record(uint64(n), fmt.Sprint(n)))
		p.offset = uint64(n) - 1
		p.publish("a", fmt.Sprint(n))
	}
}

func (p *pastRig) joined(channels ...string) (c *client) {
	p.t.Helper()
	p.during(func() { c = p.join(channels...) })
	return c
}

// say sends a command, and turns the loop until it is taken.
func (p *pastRig) say(c *client, command string) {
	p.t.Helper()
	before := p.shard.Stats().Commands.Load()
	c.send(ws.OpText, command)
	for p.shard.Stats().Commands.Load() == before {
		p.step()
	}
	p.step()
}

// hear returns the next message, which must be there already.
func (p *pastRig) hear(c *client) string {
	p.t.Helper()
	p.step()
	return c.message(wire.EventText)
}

func back(offset int, more string) string {
	return fmt.Sprintf(`{"id":5,"subscribe":{"channel":"a","recover":true,"epoch":"epoch","offset":%d%s}}`, offset, more)
}

const recoveredWith = `{"id":5,"subscribe":{"recoverable":true,"epoch":"epoch",%s"recovered":true,"offset":%d,"positioned":true,"was_recovering":true}}`

func pubs(from, to int) string {
	var list []string
	for n := from; n < to; n++ {
		list = append(list, fmt.Sprintf(`{"data":%d,"offset":%d}`, n, n))
	}
	return `"publications":[` + strings.Join(list, ",") + `],`
}

func push(n int) string {
	return fmt.Sprintf(`{"push":{"channel":"a","pub":{"data":%d,"offset":%d}}}`, n, n)
}

// What comes while the reply waits comes behind it; other commands are answered meanwhile.
func TestRecoverHolds(t *testing.T) {
	p := newPastRig(t, nil)
	p.numbers(1, 6)
	c := p.joined()
	p.say(c, back(2, ""))
	require.Equal(t, []bus.Query{{Channel: "a", Epoch: "epoch", After: 2, UpTo: 5, RecordsMax: 300, CountMax: 5}}, p.past.waiting())
	p.numbers(6, 8)
	p.say(c, `{"id":6,"rpc":{}}`)
	require.JSONEq(t, `{"id":6,"error":{"code":108,"message":"not available"}}`, p.hear(c))
	p.say(c, back(2, ""))
	require.Contains(t, p.hear(c), `"code":105`, "already subscribed")
	p.past.answer(bus.ResultOK)
	require.JSONEq(t, fmt.Sprintf(recoveredWith, pubs(3, 6), 2), p.hear(c))
	require.Equal(t, push(6), p.hear(c))
	require.Equal(t, push(7), p.hear(c))
	p.numbers(8, 9)
	require.Equal(t, push(8), p.hear(c))
	require.EqualValues(t, 1, p.shard.Stats().Recovered[RecoveryMemory].Load())
	require.Zero(t, p.shard.sender.parkedBytes)
}

// A client that missed nothing is told so without a question, while somebody has the channel.
func TestRecoverByTable(t *testing.T) {
	p := newPastRig(t, nil)
	p.numbers(1, 3)
	p.joined("a")
	p.numbers(3, 4)
	p.place.set("a", 9) // Records of other channels.
	for offset, want := range map[int]RecoveryOrigin{3: RecoveryTable, 4: RecoveryTable, 8: RecoveryTable, 9: RecoveryNone} {
		before := p.shard.Stats().Recovered[want].Load()
		c := p.joined()
		p.say(c, back(offset, ""))
		require.JSONEq(t, fmt.Sprintf(recoveredWith, "", offset), p.hear(c))
		require.Equal(t, before+1, p.shard.Stats().Recovered[want].Load(), offset)
	}
	require.Empty(t, p.past.waiting())
	c := p.joined()
	p.say(c, back(2, ""))
	require.Len(t, p.past.waiting(), 1, "3 was missed")
	p.past.answer(bus.ResultOK)
	require.JSONEq(t, fmt.Sprintf(recoveredWith, pubs(3, 4), 2), p.hear(c))
	p.say(p.joined(), back(1, ""))
	require.Len(t, p.past.waiting(), 1, "it is not noted what came before 2")
	p.past.answer(bus.ResultOK)
}

// A client from another node that is ahead of this one gets nothing that it has already.
func TestRecoverAhead(t *testing.T) {
	p := newPastRig(t, nil)
	p.numbers(1, 4)
	c := p.joined()
	p.say(c, back(6, ""))
	require.Equal(t, []bus.Query{{Channel: "a", Epoch: "epoch", After: 6, UpTo: 3, RecordsMax: 300, CountMax: 5}}, p.past.waiting())
	p.numbers(4, 5)
	p.step()
	p.numbers(5, 9) // Still on the bus when the answer comes.
	p.past.answer(bus.ResultOK)
	require.JSONEq(t, fmt.Sprintf(recoveredWith, "", 6), p.hear(c))
	require.Equal(t, push(7), p.hear(c))
	require.Equal(t, push(8), p.hear(c))

	c = p.joined()
	p.say(c, back(12, ""))
	p.numbers(9, 11)
	p.step()
	p.past.answer(bus.ResultAhead)
	require.Contains(t, p.hear(c), `"offset":10,"positioned":true,"was_recovering":true`)
	p.numbers(11, 12)
	require.Equal(t, push(11), p.hear(c))
}

// The subscription ends while its reply waits: by the client, by the socket, by the shard.
func TestRecoverEnds(t *testing.T) {
	p := newPastRig(t, nil)
	p.numbers(1, 6)
	c := p.joined()
	p.say(c, back(2, ""))
	p.numbers(6, 7)
	p.say(c, `{"id":6,"unsubscribe":{"channel":"a"}}`)
	require.Contains(t, p.hear(c), `{"id":5,"subscribe":{"recoverable":true,"epoch":"epoch","offset":6,"positioned":true,"was_recovering":true}}`)
	require.JSONEq(t, `{"id":6,"unsubscribe":{}}`, p.hear(c))
	p.past.answer(bus.ResultOK)
	p.step()

	p.say(c, back(2, ""))
	p.numbers(7, 8)
	p.step()
	require.Positive(t, p.shard.sender.parkedBytes)
	require.NoError(t, c.conn.Close())
	for p.shard.Stats().Clients.Load() > 0 {
		p.step()
	}
	p.past.answer(bus.ResultOK)
	p.step()
	require.Zero(t, p.shard.sender.parkedBytes)
	require.Empty(t, p.shard.recoveries.waiting)

	c = p.joined("b")
	p.say(c, back(2, ""))
	p.shard.reattach()
	p.past.answer(bus.ResultOK)
	require.Contains(t, p.hear(c), `"was_recovering":true`)
	text := p.hear(c)
	require.Contains(t, text, `"channel":"a","unsubscribe":{"code":2500`)
	require.Contains(t, text, `"channel":"b","unsubscribe":{"code":2500`)
}

// More comes than may be parked: it is dropped, and read again with a later portion.
func TestRecoverParksTooMuch(t *testing.T) {
	p := newPastRig(t, func(o *Options) { o.Limits.OutboundMax = 1000 })
	c := p.joined()
	p.numbers(1, 3)
	p.say(c, back(0, ""))
	p.numbers(3, 30)
	p.step()
	require.Zero(t, p.shard.sender.parkedBytes)
	p.past.answer(bus.ResultOK)
	reply := p.hear(c)
	require.JSONEq(t, strings.Replace(fmt.Sprintf(recoveredWith, pubs(1, 3), 0), `"offset":0,"positioned"`, `"positioned"`, 1), reply)
	p.past.auto()
	p.collect(c, "a", 3, 30)
	p.numbers(30, 31)
	p.collect(c, "a", 30, 31)
	require.Empty(t, p.shard.recoveries.waiting)
}

// auto has queries answered as they come.
func (p *past) auto() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = true
}

// collect reads publications of a channel with the numbers from from to to, in order, and answers pings.
func (p *pastRig) collect(c *client, channel string, from, to int) {
	p.t.Helper()
	p.during(func() {
		for next := from; next < to; {
			event, message, err := c.next()
			if err != nil || event != wire.EventText {
				p.t.Errorf("waiting for %d: event %v, error %v", next, event, err)
				return
			}
			for line := range strings.SplitSeq(message, "\n") {
				var m struct {
					Push struct {
						Channel string
						Pub     struct{ Offset int }
					}
				}
				switch {
				case line == "{}":
					c.send(ws.OpText, "{}")
				case json.Unmarshal([]byte(line), &m) == nil && m.Push.Channel == channel:
					if m.Push.Pub.Offset != next {
						p.t.Errorf("offset %d, want %d", m.Push.Pub.Offset, next)
						return
					}
					next++
				}
			}
		}
	})
	require.False(p.t, p.t.Failed())
}

// While it is not known where streams are, a client is told to try again.
func TestRecoverNotSettled(t *testing.T) {
	p := newPastRig(t, nil)
	p.place.unsettled.Store(true)
	c := p.joined()
	for command, want := range map[string]string{
		`{"id":5,"subscribe":{"channel":"new","recover":true}}`: `{"id":5,"error":{"code":108,"message":"not available yet","temporary":true}}`,
		`{"id":5,"history":{"channel":"new"}}`:                  `{"id":5,"error":{"code":108,"message":"not available yet","temporary":true}}`,
	} {
		p.say(c, command)
		require.JSONEq(t, want, p.hear(c))
	}
	require.Zero(t, p.shard.Stats().Subscriptions.Load())
}

// In a channel that is a cache a client gets the last publication, with whatever position it comes.
func TestRecoverCached(t *testing.T) {
	p := newPastRig(t, func(o *Options) { o.Recovery.Cached = []string{"a*"} })
	p.numbers(1, 6)
	for _, epoch := range []string{"", "another"} {
		c := p.joined()
		p.say(c, fmt.Sprintf(`{"id":5,"subscribe":{"channel":"a","recover":true,"epoch":%q}}`, epoch))
		require.Equal(t, []bus.Query{{Channel: "a", Epoch: "epoch", UpTo: 5, RecordsMax: 1, Kind: bus.QueryLast}}, p.past.waiting())
		p.past.answer(bus.ResultOK)
		require.JSONEq(t, `{"id":5,"subscribe":{"recoverable":true,"epoch":"epoch",`+pubs(5, 6)+`"recovered":true,"positioned":true,"was_recovering":true}}`, p.hear(c))
	}
	c := p.joined()
	p.say(c, back(2, ""))
	p.past.answer(bus.ResultOK)
	require.JSONEq(t, fmt.Sprintf(recoveredWith, pubs(5, 6), 2), p.hear(c), "one, though three were missed")
	c = p.joined()
	p.say(c, back(5, ""))
	require.JSONEq(t, fmt.Sprintf(recoveredWith, "", 5), p.hear(c), "it has it")
	p.past.records = nil
	c = p.joined()
	p.say(c, back(0, ""))
	p.past.answer(bus.ResultOK)
	require.NotContains(t, p.hear(c), `"recovered":true`, "there is none")
}

func TestHistory(t *testing.T) {
	p := newPastRig(t, nil)
	p.numbers(1, 9)
	c := p.joined()
	const none = `"publications":[],`
	const history = `{"id":5,"history":{%s"epoch":"epoch","offset":8}}`
	for request, want := range map[string]string{
		`"limit":0`:                       none,
		`"limit":-1`:                      pubs(4, 9),
		`"limit":2`:                       pubs(4, 6),
		`"limit":2,"reverse":true`:        `"publications":[{"data":8,"offset":8},{"data":7,"offset":7}],`,
		`"limit":2,"since":{"offset":1}`:  pubs(2, 4),
		`"limit":99,"since":{"offset":5}`: pubs(6, 9),
		`"limit":2,"since":{"offset":8}`:  none,
		`"limit":2,"since":{"offset":77}`: none,
		`"limit":2,"since":{"offset":3,"epoch":"epoch"},"reverse":true`: `"publications":[{"data":2,"offset":2},{"data":1,"offset":1}],`,
		`"limit":2,"since":{"offset":1},"reverse":true`:                 none,
		`"limit":2,"since":{"offset":0},"reverse":true`:                 none,
		`"limit":9,"since":{"offset":99},"reverse":true`:                `"publications":[{"data":8,"offset":8},{"data":7,"offset":7},{"data":6,"offset":6},{"data":5,"offset":5},{"data":4,"offset":4}],`,
	} {
		p.say(c, `{"id":5,"history":{"channel":"a",`+request+`}}`)
		if len(p.past.waiting()) > 0 {
			p.past.answer(bus.ResultOK)
		}
		require.JSONEq(t, fmt.Sprintf(history, want), p.hear(c), request)
	}
	for request, want := range map[string]string{
		`"channel":"none","limit":1`:                            `"code":108`,
		`"channel":"` + strings.Repeat("x", 65) + `","limit":1`: `"code":107`,
		`"channel":"a","limit":1,"since":{"epoch":"x"}`:         `"code":112`,
	} {
		p.say(c, `{"id":5,"history":{`+request+`}}`)
		require.Contains(t, p.hear(c), want, request)
	}
	for result, want := range map[bus.Result]string{
		bus.ResultGone: `"code":112`, bus.ResultLimit: `"code":112`, bus.ResultEpoch: `"code":112`, bus.ResultTimeout: `"temporary":true`, bus.ResultOverload: `"temporary":true`, bus.ResultShare: `"temporary":true`,
	} {
		p.say(c, `{"id":5,"history":{"channel":"a","limit":1,"since":{"offset":1}}}`)
		p.past.answer(result)
		require.Contains(t, p.hear(c), want)
	}
	p.say(c, `{"id":5,"history":{"channel":"a","limit":1,"since":{"offset":1}}}`)
	p.past.done[0](bus.Answer{More: true, Through: 3})
	p.past.queries, p.past.done = nil, nil
	require.Contains(t, p.hear(c), `"temporary":true`, "an empty list would say that there is nothing")
	for range historyMax {
		p.say(c, `{"id":5,"history":{"channel":"a","limit":1}}`)
	}
	p.say(c, `{"id":6,"history":{"channel":"a","limit":1}}`)
	require.Contains(t, p.hear(c), `{"id":6,"error":{"code":111`)
	require.NoError(t, c.conn.Close())
	for p.shard.Stats().Clients.Load() > 0 {
		p.step()
	}
	next := p.joined() // In the same slot.
	for range historyMax {
		p.past.answer(bus.ResultOK)
	}
	p.say(next, `{"id":6,"rpc":{}}`)
	require.JSONEq(t, `{"id":6,"error":{"code":108,"message":"not available"}}`, p.hear(next), "answers for the one before are not for it")
}

// A client over its limit whose recovery is ended by a break is closed in the turn that takes the break: nothing else
// may ever wake the shard.
func TestBreakEndsRecoveryOverLimit(t *testing.T) {
	p := newPastRig(t, func(o *Options) { o.Limits.OutboundMax = 64 << 10 })
	c := p.joined("b")
	p.joined()
	p.joined() // So that one client is no reason to brake.
	p.joined()
	require.NoError(t, tcp(c.conn).SetReadBuffer(4096))
	conn := p.shard.slab.get(0)
	for !conn.out.exceeds(p.shard.opts.Limits.OutboundMax) {
		p.publish("b", many(1, 1000)...)
		p.step()
	}
	p.place.set("a", 3)
	p.say(c, back(1, ""))
	require.Len(t, p.past.waiting(), 1)
	p.breakStream(bus.Break{Channel: "a"})
	p.step()
	require.Equal(t, stateClosing, conn.state)
	require.Equal(t, ReasonSlow, conn.reason)
	p.past.answer(bus.ResultOK)
}
