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

// state is where a client stands.
type state uint8

const (
	stateIdle       state = iota // Waits to be dialed, or has given up.
	stateConnecting              // TCP.
	stateHandshake               // The upgrade request is sent.
	stateCommands                // JSON: connect and subscribe are sent.
	stateHeld                    // Subscribed.
	stateClosed                  // Was subscribed, and is disconnected.
)

// conn is one client. It belongs to its loop.
type conn struct {
	fd      int32 // -1: none.
	state   state
	tries   uint8 // Attempts that have ended, for the back-off.
	channel uint16
	started int64 // When the attempt began.
	order   order
	reader  wire.Reader
	rest    []byte // The start of a frame or of a response head; nil mostly.
}

const (
	eventsMax   = 256
	bufferBytes = 256 << 10
	restBytes   = 16 << 10 // What is read at least in one go where a frame has begun.
	messageMax  = 64 << 20
	fillMax     = 32 // Attempts begun between two looks at the sockets.
)

// mask is that of every frame: what it protects from, proxies that mistake frames for requests, is not here.
var mask = [4]byte{0x5a, 0xa5, 0x3c, 0xc3}

// loop owns some of the clients.
type loop struct {
	e       *Engine
	poller  *epoll.Poller
	index   int // Of the loop.
	conns   []conn
	buf     []byte // What is read, for all clients.
	out     []byte // What is written, likewise.
	n       Counters
	missing missing
	connect *hdrhistogram.Histogram
	latency *hdrhistogram.Histogram

	key       string   // Of all handshakes.
	requests  [][]byte // Per channel, the upgrade request.
	commands  [][]byte // Per channel, the frame with the connect and subscribe commands; JSON only.
	pong      []byte   // The frame that answers an in-band ping.
	fresh     int      // Clients from here on have not been dialed.
	retries   []retry
	dialing   int // Attempts under way.
	dialsMax  int
	begun     int64 // When dialing began.
	now       int64 // After the last read or wait.
	nextTick  int64
	nextSweep int64
	sockets   int // Open descriptors.
	inflater  wire.Inflater

	mu        sync.Mutex
	published Counters // Guarded by mu.
	counted   bool     // Behind is known; guarded by mu.
}

// retry is a client to be dialed again.
type retry struct {
	who int32
	at  int64
}

func newLoop(e *Engine, index int) (*loop, error) {
	o := &e.o
	poller, err := epoll.New(eventsMax)
	if err != nil {
		return nil, fmt.Errorf("make client loop %d: %w", index, err)
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
			// A descriptor closed earlier in this turn may be another client's by now; that is not watched with this key.
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

// tick does what is due by time.
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

// sweep ends attempts that take too long, or all of them when no more are wanted.
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

// disconnected ends a subscribed client, because of the server or of a broken connection.
func (l *loop) disconnected(who int32, reason string) {
	c := &l.conns[who]
	l.drop(c, epoll.Close)
	c.state = stateClosed
	l.n.Open--
	l.n.Closed++
	count(&l.n.Closes, reason)
}

// close says goodbye to all clients, waits for the server to end the connections, and counts what is missing.
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
		case stateIdle, stateConnecting, stateHandshake, stateCommands: // Nothing was due to it yet.
		}
	}
}

// backoff is how long a client waits after its tries-th attempt: 100 ms, doubled each time up to 6.4 s, halved at most by chance.
func backoff(tries uint8, chance float64) time.Duration {
	full := 100 * time.Millisecond << min(tries, 6)
	return full/2 + time.Duration(float64(full/2)*chance)
}
