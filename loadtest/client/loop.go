package client

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"wsd/internal/epoll"
	"wsd/internal/wire"
)

// state is the state of a client.
type state uint8

const (
	stateIdle       state = iota // Waits to connect, or has given up.
	stateConnecting              // Waits for the TCP connection.
	stateSecuring                // Is in the TLS handshake.
	stateHandshake               // Has sent the upgrade request.
	stateCommands                // Has sent the connect and subscribe commands (not with Raw).
	stateHeld                    // Is subscribed.
	stateClosed                  // Was subscribed, and has been disconnected.
)

// conn is one client. It belongs to its loop.
type conn struct {
	fd       int32       // Descriptor; -1: none.
	state    state       // State of the client.
	rejoins  bool        // Whether the client has been held before.
	tries    uint8       // Number of attempts that have ended, for the back-off.
	channel  uint16      // Index of its channel.
	started  int64       // When the attempt began.
	order    order       // Checks the order of its records.
	reader   wire.Reader // Reads its frames.
	rest     []byte      // Start of an incomplete frame or response head; usually nil.
	tls      *tlsConn    // TLS; nil: none.
	position *position   // Where the client is in its channel's stream; nil: does not recover.
	bad      *disturber  // What a disturbing client does; nil: a good client.
}

const (
	eventsMax   = 256
	bufferBytes = 256 << 10
	restBytes   = 16 << 10 // Minimum size of a read while a frame is incomplete.
	messageMax  = 64 << 20
	fillMax     = 32 // Attempts begun between two checks of the sockets.
)

// mask is the mask of every frame. It may be constant, because masks only protect proxies, and there are none here.
var mask = [4]byte{0x5a, 0xa5, 0x3c, 0xc3}

// loop owns some of the clients.
type loop struct {
	e       *Engine
	poller  *epoll.Poller
	index   int       // Index of the loop.
	conns   []conn    // The clients, first the good ones.
	good    int       // Number of good clients.
	buf     []byte    // Read buffer of all clients.
	out     []byte    // Write buffer of all clients.
	n       Counters  // Counters of the good clients.
	bad     Disturbed // Counters of the disturbing clients.
	missing missing   // Records that clients have not got.
	times   Times     // What was measured, up to the last tick.
	recent  Times     // What was measured since.

	key       string        // Sec-WebSocket-Key of all handshakes.
	fresh     int           // Index of the first client that has not tried to connect yet.
	retries   []retry       // Clients that will try again.
	dialing   int           // Number of current attempts.
	dialsMax  int           // Maximum number of attempts at the same time.
	churn     churn         // Clients that leave and come back.
	begun     int64         // When connecting began.
	now       int64         // Time after the last read or wait.
	nextTick  int64         // Time of the next tick.
	nextSweep int64         // Time of the next sweep.
	nextTimes int64         // Time of the next publishTimes.
	sockets   int           // Number of open descriptors.
	securing  int           // Number of TLS handshakes.
	inflater  wire.Inflater // Decompresses messages.
	probe     atomic.Pointer[time.Time]

	mu           sync.Mutex
	todo         []func(l *loop) // Called in the next turn; guarded by mu.
	published    Counters        // Copy of the counters for Snapshot; guarded by mu.
	publishedBad Disturbed       // Copy of bad; guarded by mu.
	badActive    int64           // Disturbing clients that are connected or will be; guarded by mu.
	window       Times           // What was measured since the last Window; guarded by mu.
	counted      int64           // Value of draining for which published.Behind is valid; guarded by mu.
}

// retry is a client that will try again.
type retry struct {
	who int32 // Index of the client.
	due int64 // Time of the next attempt.
}

// churn is clients that leave and come back.
type churn struct {
	rate  float64 // Clients per second.
	since int64   // When it began.
	done  int64   // Clients that have left.
	next  int     // Index of the next client.
}

func newLoop(e *Engine, index int) (*loop, error) {
	o := &e.o
	poller, err := epoll.New(eventsMax)
	if err != nil {
		return nil, fmt.Errorf("create client loop %d: %w", index, err)
	}
	share := func(n int) int { return (n - index + o.Loops - 1) / o.Loops }
	l := &loop{
		e: e, poller: poller, index: index, good: share(o.Clients), buf: make([]byte, bufferBytes), missing: missing{},
		times: NewTimes(), recent: NewTimes(), window: NewTimes(), key: newKey(), dialsMax: max(1, o.Dials/o.Loops),
	}
	l.conns = make([]conn, l.good+share(o.Disturb.Count))
	for i := range l.conns {
		c := &l.conns[i]
		c.fd, c.channel = -1, uint16((index+i*o.Loops)%len(o.Channels))
		if i >= l.good {
			c.channel, c.bad = 0, o.Disturb.disturber(index+i*o.Loops)
		}
	}
	return l, nil
}

// request returns the upgrade request of a client.
func (l *loop) request(who int32) []byte {
	o, name := &l.e.o, l.e.o.Channels[l.conns[who].channel].Name
	path, subprotocol := o.Path, ""
	switch {
	case o.Protocol == Protobuf:
		subprotocol = "centrifuge-protobuf"
		fallthrough
	case o.Protocol == JSON:
		if path == "" {
			path = "/connection/websocket"
		}
	case path == "":
		path = "/ws?channel={channel}"
	}
	path = strings.ReplaceAll(path, "{channel}", url.QueryEscape(name))
	request := wire.AppendClientHandshake(nil, o.Host, path, subprotocol, l.key)
	if o.Deflate {
		request = wire.OfferDeflate(request)
	}
	if token := l.token(who); token != "" && o.Protocol == Raw {
		request = fmt.Appendf(request[:len(request)-2], "Authorization: Bearer %s\r\n\r\n", token)
	}
	return request
}

// token returns the token of a client, or "".
func (l *loop) token(who int32) string {
	if tokens := l.e.o.Tokens; len(tokens) > 0 {
		return tokens[(l.index+int(who)*l.e.o.Loops)%len(tokens)]
	}
	return ""
}

func newKey() string {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // Never fails.
	return base64.StdEncoding.EncodeToString(nonce[:])
}

// post has f called in the next turn. Any goroutine may call it.
func (l *loop) post(f func(l *loop)) {
	l.mu.Lock()
	l.todo = append(l.todo, f)
	l.mu.Unlock()
	l.poller.Wake()
}

// run is the loop's goroutine.
func (l *loop) run() {
	l.begun = l.e.o.Now()
	for {
		l.turn()
		phase := l.e.phase.Load()
		if phase == phaseDial {
			l.fill()
		}
		if l.now >= l.nextTick {
			l.nextTick = l.now + int64(tickInterval)
			l.tick(phase)
		}
		if phase == phaseClose {
			l.close()
			l.publish()
			l.publishTimes()
			return
		}
	}
}

// turn waits for events and handles them.
func (l *loop) turn() {
	events, _, err := l.poller.Wait(true)
	if err != nil {
		panic(fmt.Sprintf("BUG: client loop %d: %v", l.index, err))
	}
	l.now = l.e.o.Now()
	if due := l.probe.Swap(nil); due != nil {
		record(l.recent.Lag, int64(time.Since(*due)))
	}
	for _, ev := range events {
		// A descriptor that was closed earlier in this turn may belong to another client by now, which has another key.
		if l.conns[ev.Fd].fd == ev.Pad {
			l.event(ev.Fd)
		}
	}
	l.mu.Lock()
	todo := l.todo
	l.todo = nil
	l.mu.Unlock()
	for _, f := range todo {
		f(l)
	}
}

// tick does what is due from time to time.
func (l *loop) tick(phase int32) {
	if l.dialing > 0 && (l.now >= l.nextSweep || phase != phaseDial) {
		l.nextSweep = l.now + int64(4*tickInterval)
		l.sweep(phase)
	}
	for i := l.good; i < len(l.conns); i++ {
		l.disturb(int32(i))
	}
	if l.e.draining.Load() > 0 {
		l.n.Behind = 0
		for i := range l.conns[:l.good] {
			if c := &l.conns[i]; c.state == stateHeld && c.order.behind(l.e.last[c.channel].Load()) > 0 {
				l.n.Behind++
			}
		}
	}
	l.publish()
	if l.now >= l.nextTimes { // Merging histograms is expensive.
		l.nextTimes = l.now + int64(timesInterval)
		l.publishTimes()
	}
}

func (l *loop) publish() {
	draining := l.e.draining.Load()
	var n Counters
	var bad Disturbed
	Add(&n, &l.n)
	Add(&bad, &l.bad)
	var active int64
	for _, c := range l.conns[l.good:] {
		if c.bad.on || c.bad.mode != modeOff {
			active++
		}
	}
	l.mu.Lock()
	l.published, l.publishedBad, l.badActive, l.counted = n, bad, active, draining
	l.mu.Unlock()
}

// publishTimes moves what was measured recently to the window and to the total.
func (l *loop) publishTimes() {
	l.times.Merge(&l.recent)
	l.mu.Lock()
	l.window.Merge(&l.recent)
	l.mu.Unlock()
	l.recent.reset()
}

// sweep ends attempts that take too long, or all attempts after phaseDial.
func (l *loop) sweep(phase int32) {
	for i := range l.conns[:l.good] {
		c := &l.conns[i]
		if c.fd < 0 || c.state == stateHeld || c.state == stateSecuring {
			continue // A TLS handshake has a deadline of its own.
		}
		if phase != phaseDial {
			l.attemptFailed(int32(i), "not subscribed when the ramp ended")
		} else if l.now-c.started > int64(l.e.o.AttemptTimeout) {
			l.attemptFailed(int32(i), "timeout while "+c.state.doing())
		}
	}
}

func (s state) doing() string {
	switch s {
	case stateConnecting:
		return "connecting"
	case stateSecuring:
		return "in the TLS handshake"
	case stateHandshake:
		return "waiting for the upgrade"
	default:
		return "waiting for the subscription"
	}
}

// drop closes a client's descriptor.
func (l *loop) drop(c *conn, end func(fd int)) {
	end(int(c.fd))
	l.sockets--
	c.fd, c.rest, c.reader, c.tls = -1, nil, wire.Reader{}, nil
}

// disconnected ends a subscribed client, because of the server or a broken connection.
func (l *loop) disconnected(who int32, reason string) {
	c := &l.conns[who]
	l.drop(c, epoll.Close)
	c.state = stateClosed
	l.n.Open--
	l.n.Closed++
	count(&l.n.Closes, reason)
}

// reconnect ends the connections of all held clients, which come back at once.
func (l *loop) reconnect(abrupt bool) {
	for i := range l.conns[:l.good] {
		if l.conns[i].state == stateHeld {
			l.move(int32(i), abrupt)
		}
	}
}

// move ends the connection of a held client, which comes back at once. What it was owed is not lost: a client that
// recovers must still get it, and another is owed only what comes after its next subscription.
func (l *loop) move(who int32, abrupt bool) {
	c := &l.conns[who]
	end := epoll.Reset
	if !abrupt {
		l.out = appendClose(l.out[:0])
		_, _ = l.write(c, l.out) // If it fails, the connection has ended anyway.
		end = epoll.Close
	}
	l.drop(c, end)
	c.state, c.rejoins, c.tries = stateIdle, true, 0
	l.n.Open--
	l.n.Moved++
	if c.position == nil {
		delete(l.missing, who)
	}
	l.retries = append(l.retries, retry{who: who, due: l.now})
}

func appendClose(dst []byte) []byte {
	return wire.AppendMasked(dst, ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, ""), mask)
}

// close sends close frames, waits for the server to close the connections, and counts missing records.
func (l *loop) close() {
	for l.securing > 0 {
		l.turn() // The handshakes end soon, because they see the phase.
	}
	l.sweep(phaseClose)
	for i := range l.conns {
		switch c := &l.conns[i]; {
		case c.fd >= 0 && c.bad != nil:
			l.drop(c, epoll.Reset)
		case c.state == stateHeld:
			l.out = appendClose(l.out[:0])
			if n, err := l.write(c, l.out); err != nil || n < len(l.out) {
				l.drop(c, epoll.Reset)
			}
		}
	}
	for l.sockets > 0 && l.now < l.e.grace.Load() {
		events, _, err := l.poller.Wait(true)
		if err != nil {
			panic(fmt.Sprintf("BUG: client loop %d: %v", l.index, err))
		}
		for _, ev := range events {
			c := &l.conns[ev.Fd]
			if c.fd != ev.Pad {
				continue
			}
			n, err := epoll.Read(int(c.fd), l.buf)
			if err == nil && n == 0 && c.state == stateHeld {
				l.n.Left++
			}
			if err == nil && n == 0 || err != nil && !again(err) {
				l.drop(c, epoll.Close)
			}
		}
		l.now = l.e.o.Now()
	}
	for i := range l.conns[:l.good] {
		c := &l.conns[i]
		if c.fd >= 0 {
			l.drop(c, epoll.Reset)
		}
		behind := int64(c.order.behind(l.e.last[c.channel].Load()))
		switch {
		case c.state == stateHeld:
			l.n.Lost += behind
		case c.state == stateClosed, c.position != nil && c.rejoins:
			l.n.LostClosed += behind
		}
	}
}

// backoff returns how long a client waits after its tries-th attempt: 100 ms, doubled each time up to 6.4 s, and
// reduced by up to a half at random.
func backoff(tries uint8, chance float64) time.Duration {
	full := 100 * time.Millisecond << min(tries, 6)
	return full/2 + time.Duration(float64(full/2)*chance)
}

// grown returns b with room for size more bytes, and that room.
func grown(b []byte, size int) (all, room []byte) {
	b = slices.Grow(b, size)
	return b, b[len(b):cap(b)]
}
