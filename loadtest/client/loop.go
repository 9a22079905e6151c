package client

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/gobwas/ws"

	"wsd/internal/epoll"
	"wsd/internal/wire"
)

// state is the state of a client.
type state uint8

const (
	stateIdle       state = iota // Waits to connect, or has given up.
	stateConnecting              // Waits for the TCP connection.
	stateHandshake               // Has sent the upgrade request.
	stateCommands                // Has sent the connect and subscribe commands (JSON only).
	stateHeld                    // Is subscribed.
	stateClosed                  // Was subscribed, and has been disconnected.
)

// conn is one client. It belongs to its loop.
type conn struct {
	fd      int32       // Descriptor; -1: none.
	state   state       // State of the client.
	tries   uint8       // Number of attempts that have ended, for the back-off.
	channel uint16      // Index of its channel.
	started int64       // When the attempt began.
	order   order       // Checks the order of its records.
	reader  wire.Reader // Reads its frames.
	rest    []byte      // Start of an incomplete frame or response head; usually nil.
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
	index   int                     // Index of the loop.
	conns   []conn                  // The clients.
	buf     []byte                  // Read buffer of all clients.
	out     []byte                  // Write buffer of all clients.
	n       Counters                // Counters of the clients.
	missing missing                 // Records that clients have not got.
	connect *hdrhistogram.Histogram // Times from connecting to the subscription, in microseconds.
	latency *hdrhistogram.Histogram // Latencies of records, in microseconds.

	key       string        // Sec-WebSocket-Key of all handshakes.
	requests  [][]byte      // Upgrade request, by channel.
	commands  [][]byte      // Frame with the connect and subscribe commands, by channel; JSON only.
	pong      []byte        // Frame that answers a ping of the client protocol.
	fresh     int           // Index of the first client that has not tried to connect yet.
	retries   []retry       // Clients that will try again.
	dialing   int           // Number of current attempts.
	dialsMax  int           // Maximum number of attempts at the same time.
	begun     int64         // When connecting began.
	now       int64         // Time after the last read or wait.
	nextTick  int64         // Time of the next tick.
	nextSweep int64         // Time of the next sweep.
	sockets   int           // Number of open descriptors.
	inflater  wire.Inflater // Decompresses messages.

	mu        sync.Mutex
	published Counters // Copy of the counters for Snapshot; guarded by mu.
	counted   bool     // Whether published.Behind is valid; guarded by mu.
}

// retry is a client that will try again.
type retry struct {
	who int32 // Index of the client.
	due int64 // Time of the next attempt.
}

func newLoop(e *Engine, index int) (*loop, error) {
	o := &e.o
	poller, err := epoll.New(eventsMax)
	if err != nil {
		return nil, fmt.Errorf("create client loop %d: %w", index, err)
	}
	share := (o.Clients - index + o.Loops - 1) / o.Loops
	l := &loop{
		e: e, poller: poller, index: index, conns: make([]conn, share), buf: make([]byte, bufferBytes),
		missing: missing{}, connect: newHistogram(), latency: newHistogram(),
		key:      newKey(),
		dialsMax: max(1, o.Dials/o.Loops),
		pong:     wire.AppendMasked(nil, ws.OpText, []byte("{}"), mask),
	}
	for i := range l.conns {
		l.conns[i].fd = -1
		l.conns[i].channel = uint16((index + i*o.Loops) % len(o.Channels))
	}
	for _, ch := range o.Channels {
		path := "/connection/websocket"
		if o.Protocol == Raw {
			path = rawPath(ch.Name)
		}
		request := wire.AppendClientHandshake(nil, o.Host, path, "", l.key)
		if o.Deflate {
			request = wire.OfferDeflate(request)
		}
		l.requests = append(l.requests, request)
		commands := fmt.Appendf(nil, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":%q}}", ch.Name)
		l.commands = append(l.commands, wire.AppendMasked(nil, ws.OpText, commands, mask))
	}
	return l, nil
}

func newKey() string {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // Never fails.
	return base64.StdEncoding.EncodeToString(nonce[:])
}

func rawPath(channel string) string { return "/ws?channel=" + url.QueryEscape(channel) }

// run is the loop's goroutine.
func (l *loop) run() {
	l.begun = l.e.o.Now()
	for {
		events, _, err := l.poller.Wait(true)
		if err != nil {
			panic(fmt.Sprintf("BUG: client loop %d: %v", l.index, err))
		}
		l.now = l.e.o.Now()
		for _, ev := range events {
			// A descriptor that was closed earlier in this turn may belong to another client by now, which has another
			// key.
			if l.conns[ev.Fd].fd == ev.Pad {
				l.event(ev.Fd)
			}
		}
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
			l.publish(false)
			return
		}
	}
}

// tick does what is due from time to time.
func (l *loop) tick(phase int32) {
	if l.dialing > 0 && (l.now >= l.nextSweep || phase != phaseDial) {
		l.nextSweep = l.now + int64(4*tickInterval)
		l.sweep(phase)
	}
	if phase == phaseDrain {
		l.n.Behind = 0
		for i := range l.conns {
			if c := &l.conns[i]; c.state == stateHeld && c.order.behind(l.e.last[c.channel].Load()) > 0 {
				l.n.Behind++
			}
		}
	}
	l.publish(phase == phaseDrain)
}

func (l *loop) publish(counted bool) {
	l.mu.Lock()
	l.published = l.n.clone()
	l.counted = counted
	l.mu.Unlock()
}

// sweep ends attempts that take too long, or all attempts after phaseDial.
func (l *loop) sweep(phase int32) {
	for i := range l.conns {
		c := &l.conns[i]
		if c.fd < 0 || c.state == stateHeld {
			continue
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
	c.fd, c.rest, c.reader = -1, nil, wire.Reader{}
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

// close sends close frames, waits for the server to close the connections, and counts missing records.
func (l *loop) close() {
	l.sweep(phaseClose)
	for i := range l.conns {
		if c := &l.conns[i]; c.state == stateHeld {
			l.out = wire.AppendMasked(l.out[:0], ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, ""), mask)
			if n, err := epoll.Write(int(c.fd), l.out); err != nil || n < len(l.out) {
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
	for i := range l.conns {
		c := &l.conns[i]
		if c.fd >= 0 {
			l.drop(c, epoll.Reset)
		}
		behind := int64(c.order.behind(l.e.last[c.channel].Load()))
		switch c.state {
		case stateHeld:
			l.n.Lost += behind
		case stateClosed:
			l.n.LostClosed += behind
		case stateIdle, stateConnecting, stateHandshake, stateCommands: // Not subscribed, so it misses nothing.
		}
	}
}

// backoff returns how long a client waits after its tries-th attempt: 100 ms, doubled each time up to 6.4 s, and
// reduced by up to a half at random.
func backoff(tries uint8, chance float64) time.Duration {
	full := 100 * time.Millisecond << min(tries, 6)
	return full/2 + time.Duration(float64(full/2)*chance)
}
