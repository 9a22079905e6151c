package shard

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// FuzzRecovery lets clients recover, ask for history, leave and come back while a Recoverer answers in any order, late,
// in part, with any failure, or not before the asker has gone. The input is a program of operations, two bytes each (see
// step). Whatever it does, the shard's sums hold after each turn; a client gets its stream from the offset that the
// reply names, in order, without a gap and nothing twice; and in the end each command has its reply and each client that
// is subscribed has all.
func FuzzRecovery(f *testing.F) {
	const connect, again, other, leave, history, live, ok, fails, read, wait, gap, hangUp, epoch, part, detach, turn = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	for _, seed := range [][]byte{
		{connect, 0, again, 0, live, 9, ok, 0, read, 255, live, 1},                                                          // All in the reply.
		{connect, 0, other, 0, ok, 0, wait, 0, live, 200, ok, 0, read, 255, wait, 1, ok, 0, read, 255, live, 3},             // A stream.
		{connect, 0, other, 0, ok, 0, leave, 0, again, 0, ok, 1, ok, 0, hangUp, 0, ok, 0, ok, 0},                            // Answers that come late.
		{connect, 0, other, 0, fails, 5, again, 0, ok, 0, wait, 0, fails, 5, wait, 9, fails, 6, wait, 9, fails, 7},          // Failures for now, and at last one for good.
		{connect, 0, history, 0, history, 9, history, 64, history, 200, other, 0, ok, 3, ok, 2, ok, 0, ok, 0, ok, 0},        // Answers in another order.
		{connect, 0, connect, 1, again, 0, other, 1, gap, 0, ok, 0, ok, 0, live, 3, epoch, 0, again, 0, again, 1, ok, 0},    // A break and another epoch.
		{connect, 0, other, 3, live, 255, live, 255, live, 255, live, 255, part, 2, ok, 0, part, 0, wait, 0, detach, 0},     // More than may be parked.
		{connect, 0, other, 16, other, 8, fails, 3, other, 9, fails, 2, again, 0, hangUp, 0, turn, 0, fails, 8, connect, 0}, // Gone, limit and cancelled.
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		w := newRecoveryWorld(t)
		for ; len(program) >= 2 && w.steps < 200; program = program[2:] {
			w.step(program[0], int(program[1]))
		}
		w.finish()
	})
}

// TestRecoveryRandom is FuzzRecovery for long programs, which connect and answer more often than they do other things.
func TestRecoveryRandom(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 15))
		w := newRecoveryWorld(t)
		for range 300 {
			op := byte(random.IntN(16))
			if random.IntN(3) == 0 {
				op = []byte{0, 1, 2, 6, 8, 8, 9}[random.IntN(7)]
			}
			w.step(op, random.IntN(256))
		}
		w.finish()
	}
}

const (
	fuzzRecords    = 120
	fuzzRecordSize = 900 // All together are more than a reply carries.
)

// fuzzStream is what the stream holds at first.
var fuzzStream = sync.OnceValue(func() (list []bus.Record) {
	for n := range uint64(fuzzRecords) {
		list = append(list, record(n+1, fmt.Sprintf(`{"n":%d,"x":%q}`, n+1, strings.Repeat("x", fuzzRecordSize))))
	}
	return list
})

// recoveryWorld is a shard with a stream, and three clients of it behind socket pairs.
type recoveryWorld struct {
	*streamRig
	clients [3]*recoveryClient // Nil: not connected.
	steps   int
	epoch   int
	sink    []byte
}

// recoveryClient is what one client knows.
type recoveryClient struct {
	w          *recoveryWorld
	fd         int
	buf        []byte
	reader     wire.Reader
	open       bool // Upgraded, as far as the client has read.
	id         int
	asked      map[int]string // Commands without a reply: what they are, and for a subscribe the offset.
	subscribed bool           // It has been replied to, and nothing has ended it.
	got        int            // Offset of the last publication.
	epoch      string
	pongs      int // Pings that it has not answered.
}

func newRecoveryWorld(t *testing.T) *recoveryWorld {
	t.Helper()
	r := newStreamRig(t, 0, 0, func(o *Options) {
		o.TLS = TLS{} // It writes past TLS.
		o.Logger = slog.New(slog.DiscardHandler)
		o.Recovery.PublicationsMax, o.Recovery.HistoryMax = fuzzRecords+40, 50
		o.Limits.OutboundMax = 128 << 10
	})
	r.past.records, r.last, r.offset = slices.Clip(fuzzStream()), fuzzRecords, fuzzRecords
	r.place.set("a", fuzzRecords)
	return &recoveryWorld{streamRig: r, sink: make([]byte, 64<<10)}
}

func (w *recoveryWorld) step(op byte, arg int) {
	w.steps++
	c := w.clients[arg%len(w.clients)]
	switch op % 16 {
	case 0:
		if c == nil {
			w.clients[arg%len(w.clients)] = w.connect()
		}
	case 1: // Comes back with what it has.
		if c != nil {
			c.subscribe(c.got, c.epoch, arg&64 != 0)
		}
	case 2: // Comes back with anything.
		if c != nil {
			c.subscribe(arg/3*2, []string{"epoch", "", "another", c.epoch}[arg%4], arg&128 != 0)
		}
	case 3:
		if c != nil && (c.subscribed || len(c.asked) > 0) {
			c.send("unsubscribe", `"unsubscribe":{"channel":"a"}`)
		}
	case 4:
		if c != nil {
			c.history(arg)
		}
	case 5:
		for range arg%7 + 1 {
			w.live(arg * 16)
		}
	case 6:
		w.answer(arg, w.find)
	case 7:
		w.answer(arg>>4, func(q bus.Query) bus.Answer { return failure(q, bus.Results()[1+arg%(len(bus.Results())-1)]) })
	case 8:
		if c != nil {
			c.read(1+arg<<8, arg&1 != 0)
		}
	case 9:
		w.after([]time.Duration{startPause, retryPause, 10 * time.Millisecond, pongPatience}[arg%4])
	case 10:
		w.breakStream(bus.Break{Channel: "a"})
	case 11:
		if c != nil {
			c.hangUp()
		}
	case 12: // The topic is made anew: its records before are lost.
		w.epoch++
		w.place.begin(fmt.Sprint("epoch", w.epoch))
		w.breakStream(bus.Break{Channel: "a"})
	case 13:
		w.answer(arg>>4, func(q bus.Query) bus.Answer { return partly(w.find(q), q, arg%16) })
	case 14:
		w.shard.reattach()
	}
	w.rig.step()
}

// answer answers one of the queries that wait.
func (w *recoveryWorld) answer(which int, with func(bus.Query) bus.Answer) {
	p := w.past
	if len(p.queries) == 0 {
		return
	}
	i := which % len(p.queries)
	q, done := p.queries[i], p.done[i]
	p.queries, p.done = slices.Delete(p.queries, i, i+1), slices.Delete(p.done, i, i+1)
	done(with(q))
}

// find answers q with what there is. As recovery does, it fails with ResultAhead, in the end, where the asker knows of
// records that have not come yet.
func (w *recoveryWorld) find(q bus.Query) bus.Answer {
	if q.After > q.UpTo && q.After > w.offset {
		return bus.Answer{Result: bus.ResultAhead}
	}
	return w.past.find(q)
}

// failure is the answer with a result that a Recoverer may give to q.
func failure(q bus.Query, result bus.Result) bus.Answer {
	switch {
	case result == bus.ResultCanceled && (q.Canceled == nil || !q.Canceled.Load()),
		result == bus.ResultLimit && q.CountMax == 0:
		result = bus.ResultTimeout
	}
	return bus.Answer{Result: result}
}

// partly cuts an answer after n records, as one is whose time is over.
func partly(a bus.Answer, q bus.Query, n int) bus.Answer {
	if q.Kind == bus.QueryLast {
		if a.Records = a.Records[min(n, len(a.Records)):]; n > 0 {
			a.Result = bus.ResultTimeout
		}
		return a
	}
	if n++; n < len(a.Records) {
		a.Records, a.More, a.Through = a.Records[:n], true, a.Records[n-1].Offset
	}
	return a
}

func (w *recoveryWorld) connect() *recoveryClient {
	c := &recoveryClient{w: w, fd: w.pair(), asked: map[int]string{}, epoch: "epoch"}
	_, err := unix.Write(c.fd, wire.AppendClientHandshake(nil, "h", pathProtocol, "", testKey))
	require.NoError(w.t, err)
	w.rig.step()
	n, err := unix.Read(c.fd, w.sink)
	require.NoError(w.t, err)
	require.Equal(w.t, n, wire.HeadLen(w.sink[:n], 0))
	c.open = true
	c.send("connect", `"connect":{}`)
	return c
}

func (c *recoveryClient) subscribe(offset int, epoch string, reject bool) {
	if c.subscribed {
		return
	}
	flag := ""
	if reject {
		flag = `,"flag":2`
	}
	c.send(fmt.Sprint("subscribe ", offset), fmt.Sprintf(
		`"subscribe":{"channel":"a","recover":true,"offset":%d,"epoch":%q%s}`, offset, epoch, flag))
}

func (c *recoveryClient) history(arg int) {
	more := ""
	if arg&1 != 0 {
		more += fmt.Sprintf(`,"since":{"offset":%d,"epoch":"epoch"}`, arg/2)
	}
	if arg&64 != 0 {
		more += `,"reverse":true`
	}
	c.send("history", fmt.Sprintf(`"history":{"channel":"a","limit":%d%s}`, arg%60-1, more))
}

// send sends a command, or none while the shard reads no more.
func (c *recoveryClient) send(what, request string) {
	c.id++
	frame := wire.AppendMasked(nil, ws.OpText, fmt.Appendf(nil, `{"id":%d,%s}`, c.id, request), [4]byte{1, 2, 3, 4})
	if n, err := unix.SendmsgN(c.fd, frame, nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return
	} else if n < len(frame) {
		c.hangUp()
		return
	}
	c.asked[c.id] = what
}

func (c *recoveryClient) hangUp() {
	_ = unix.Close(c.fd)
	c.open = false
	for i := range c.w.clients {
		if c.w.clients[i] == c {
			c.w.clients[i] = nil
		}
	}
}

// read takes up to n bytes of what has come, and acts on the messages; with pong it answers the pings.
func (c *recoveryClient) read(n int, pong bool) {
	k, err := unix.Read(c.fd, c.w.sink[:min(n, len(c.w.sink))])
	if k == 0 && err == nil || err != nil && err != unix.EAGAIN {
		c.hangUp()
		return
	}
	c.buf = append(c.buf, c.w.sink[:max(k, 0)]...)
	for c.open {
		event, payload, used, closeErr := c.reader.Next(c.buf, wire.RoleClient, 64<<20)
		require.Nil(c.w.t, closeErr)
		if used == 0 {
			break
		}
		text := string(payload)
		c.buf = c.buf[used:]
		if event == wire.EventClose {
			code, _, _ := wire.CloseCode([]byte(text))
			require.Contains(c.w.t, []uint16{3008, 3010, 3012, 3001}, code)
			c.hangUp()
			return
		}
		require.Equal(c.w.t, wire.EventText, event)
		for line := range strings.SplitSeq(text, "\n") {
			c.line(line)
		}
	}
	for ; c.open && pong && c.pongs > 0; c.pongs-- {
		if _, err := unix.SendmsgN(c.fd, wire.AppendMasked(nil, ws.OpText, []byte("{}"), [4]byte{}), nil, nil, unix.MSG_NOSIGNAL); err != nil {
			break
		}
	}
}

func (c *recoveryClient) line(line string) {
	t := c.w.t
	if line == "{}" {
		c.pongs++
		return
	}
	type pub struct{ Offset int }
	var m struct {
		ID   int
		Push struct {
			Pub         *pub
			Unsubscribe *struct{ Code int }
		}
		Subscribe *struct {
			Recovered    bool
			Offset       int
			Epoch        string
			Publications []pub
		}
		History *struct{ Publications []pub }
		Error   *struct {
			Code      int
			Temporary bool
		}
	}
	require.NoError(t, json.Unmarshal([]byte(line), &m), line)
	what := c.asked[m.ID]
	if m.ID != 0 {
		require.NotEmpty(t, what, "a reply that nobody waits for: %.200s", line)
		delete(c.asked, m.ID)
	}
	asked := 0
	switch {
	case strings.HasPrefix(what, "subscribe ") && m.Subscribe != nil:
		_, err := fmt.Sscanf(what, "subscribe %d", &asked)
		require.NoError(t, err)
		c.subscribed, c.got, c.epoch = true, m.Subscribe.Offset, m.Subscribe.Epoch
		if m.Subscribe.Recovered {
			require.Equal(t, asked, m.Subscribe.Offset)
		}
		for _, p := range m.Subscribe.Publications {
			c.take(p.Offset, line)
		}
	case what == "unsubscribe" && m.Error == nil:
		c.subscribed = false
	case what == "history" && m.History != nil:
		for i, p := range m.History.Publications[min(1, len(m.History.Publications)):] {
			step := p.Offset - m.History.Publications[i].Offset
			require.True(t, step == 1 || step == -1, "%.200s", line)
		}
	case m.Push.Pub != nil:
		require.True(t, c.subscribed, "%.200s", line)
		c.take(m.Push.Pub.Offset, line)
	case m.Push.Unsubscribe != nil:
		c.subscribed = false
	}
}

func (c *recoveryClient) take(offset int, line string) {
	require.Equal(c.w.t, c.got+1, offset, "%.200s", line)
	c.got = offset
}

// finish lets everything come to its end: answers, pongs, pauses. Then it closes all.
func (w *recoveryWorld) finish() {
	done := func() bool {
		for _, c := range w.clients {
			if c != nil && (len(c.asked) > 0 || c.subscribed && c.got < w.last) {
				return false
			}
		}
		return true
	}
	for i := 0; !done(); i++ {
		if i == 2000 {
			for _, c := range w.clients {
				w.t.Logf("%+v", c)
			}
			require.Fail(w.t, "a client waits in vain")
		}
		for len(w.past.queries) > 0 {
			w.answer(0, w.find)
		}
		for _, c := range w.clients {
			if c != nil {
				c.read(len(w.sink), true)
			}
		}
		w.after(startPause)
	}
	for _, c := range w.clients {
		if c != nil {
			c.hangUp()
		}
	}
	for len(w.past.queries) > 0 {
		w.answer(0, w.find)
	}
	for i := 0; w.shard.connections > 0 || w.shard.inbox.expected > 0; i++ { // What was answered for who has gone.
		require.Less(w.t, i, 100, "connections or completions stay")
		w.rig.step()
	}
	require.Empty(w.t, w.shard.recoveries.waiting)
	require.Empty(w.t, w.shard.flows.bySlot)
	require.Zero(w.t, w.shard.inbound.bytes)
	require.Zero(w.t, w.shard.ownMemory())
	require.Zero(w.t, w.shard.sender.parkedBytes)
}
