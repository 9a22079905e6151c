package httpserve

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// slotListener has a bounded number of slots, one for each open connection. When all are taken, it closes an open
// connection for the next one (victim). So whoever connects is heard, whatever others do to hold the slots.
type slotListener struct {
	net.Listener
	slots int
	grace time.Duration // See victim.

	changes chan struct{} // Has an entry when a victim may be found where there was none.
	closed  chan struct{}
	once    sync.Once

	mu   sync.Mutex
	open map[*slotConn]struct{}
	busy int // Connections with a request in progress that is not a probe.
}

func newSlotListener(l net.Listener, connections int, grace time.Duration) *slotListener {
	return &slotListener{
		Listener: l, slots: connections, grace: grace,
		changes: make(chan struct{}, 1), closed: make(chan struct{}), open: make(map[*slotConn]struct{}, connections),
	}
}

// slotConn is a connection in a slot. The fields after owner belong to the listener's mutex.
type slotConn struct {
	net.Conn
	owner *slotListener

	source   netip.Prefix // Who has connected, see sourceOf.
	state    slotState
	progress time.Time // When bytes of a request or response last moved, or the state changed.
}

// slotState is where a connection is. The further down in the list, the later it gives way.
type slotState uint8

const (
	slotIdle   slotState = iota // It has had a response.
	slotNew                     // Its first request has not come, or not as a whole.
	slotActive                  // A request has been read, and its response is not complete.
	slotStates
)

// Accept returns the next connection. If all slots are taken it waits until one can be made free, about the grace at
// most.
func (l *slotListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &slotConn{Conn: conn, owner: l, source: sourceOf(conn.RemoteAddr()), state: slotNew}
	for {
		displaced, wait := l.enter(c)
		if displaced != nil {
			displaced.reset()
		}
		if wait == 0 {
			return c, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.changes:
		case <-l.closed:
			timer.Stop()
			_ = conn.Close() // It has no user yet.
			return nil, net.ErrClosed
		}
		timer.Stop()
	}
}

// enter gives c a slot, that of the connection it returns if none is free. If it returns a time to wait, there was none
// to give.
func (l *slotListener) enter(c *slotConn) (displaced *slotConn, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.open) >= l.slots {
		if displaced, wait = l.victim(now); displaced == nil {
			return nil, wait
		}
		delete(l.open, displaced)
	}
	c.progress = now
	l.open[c] = struct{}{}
	return displaced, 0
}

// victim returns the connection that gives way: the first by state, then one of the source that has the most in that
// state, then the one that has made no progress for the longest. So a source that fills the slots displaces itself, and
// cannot displace a probe from elsewhere. Only idle connections give way before the grace has passed without progress:
// a probe from the source of a flood is accepted in turn, and then has time to be answered. If all are within their
// grace, victim returns how long the first one still is. The caller holds the mutex; all slots are taken.
func (l *slotListener) victim(now time.Time) (v *slotConn, wait time.Duration) {
	wait = l.grace
	for state := range slotStates {
		counts := make(map[netip.Prefix]int)
		for c := range l.open {
			if c.state == state {
				counts[c.source]++
			}
		}
		for c := range l.open {
			if c.state != state {
				continue
			}
			if left := l.grace - now.Sub(c.progress); left > 0 && state != slotIdle {
				wait = min(wait, left)
				continue
			}
			if v == nil || counts[c.source] > counts[v.source] ||
				counts[c.source] == counts[v.source] && c.progress.Before(v.progress) {
				v = c
			}
		}
		if v != nil {
			return v, 0
		}
	}
	return nil, max(wait, time.Millisecond)
}

// Close stops accepting.
func (l *slotListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// changed lets an Accept that waits look again.
func (l *slotListener) changed() {
	select {
	case l.changes <- struct{}{}:
	default:
	}
}

// sourceOf returns the part of an address that counts as one client: an IPv4 address, the /64 of an IPv6 address, and
// all loopback addresses together. Unix sockets have no address; their clients are one source.
func sourceOf(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	switch {
	case ip.Is6() && ip.IsLoopback():
		bits = 128
	case ip.Is6():
		bits = 64
	case ip.IsLoopback():
		bits = 8
	}
	prefix, _ := ip.Prefix(bits) // The number of bits fits the address.
	return prefix
}

// reset closes c so that the kernel keeps nothing of what the peer has not read.
func (c *slotConn) reset() {
	conn := c.Conn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS, which would say goodbye first.
		conn = t.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // Fails only on a closed socket.
	}
	_ = conn.Close() // A displaced connection has nobody to report to.
}

// Read reads and notes the progress.
func (c *slotConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.progressed(n)
	return n, err
}

// Write writes and notes the progress.
func (c *slotConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.progressed(n)
	return n, err
}

func (c *slotConn) progressed(n int) {
	// A head that comes byte by byte is no progress: such a connection would be as fresh as one that has just come.
	if n > 0 {
		c.owner.mu.Lock()
		if c.state == slotActive {
			c.progress = time.Now()
		}
		c.owner.mu.Unlock()
	}
}

// Close frees the slot and closes the connection.
func (c *slotConn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.open, c)
	c.owner.mu.Unlock()
	c.owner.changed()
	return c.Conn.Close()
}

// note is the server's ConnState hook. The server calls a connection active once it has read a complete head, and idle
// after a response.
func (l *slotListener) note(conn net.Conn, state http.ConnState) {
	c, ok := conn.(*slotConn)
	if !ok || state != http.StateActive && state != http.StateIdle {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.progress = time.Now()
	if c.state = slotActive; state == http.StateIdle {
		c.state = slotIdle
		l.changed()
	}
}

// keepFor returns a handler that answers other requests than probes with 503 while limit of them are in progress. What
// is left of the slots is kept for probes.
func (l *slotListener) keepFor(probe func(*http.Request) bool, limit int, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if probe(r) {
			next.ServeHTTP(w, r)
			return
		}
		if !l.begin(limit) {
			w.Header().Set("Connection", "close")
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests are in progress", http.StatusServiceUnavailable)
			return
		}
		defer l.end()
		next.ServeHTTP(w, r)
	})
}

func (l *slotListener) begin(limit int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy >= limit {
		return false
	}
	l.busy++
	return true
}

func (l *slotListener) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
}
