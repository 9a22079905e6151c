package httpserve

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// slotListener has a bounded number of slots, one for each open connection. It accepts every connection at once: when
// all slots are taken, it closes an open connection for it (victim). So whoever connects is heard, whatever others do
// to hold the slots.
type slotListener struct {
	net.Listener
	slots int

	mu   sync.Mutex
	open map[*slotConn]struct{}
	busy int // Connections with a request in progress that is not a probe.
}

func newSlotListener(l net.Listener, connections int) *slotListener {
	return &slotListener{Listener: l, slots: connections, open: make(map[*slotConn]struct{}, connections)}
}

// slotConn is a connection in a slot. The fields after net.Conn belong to the listener's mutex.
type slotConn struct {
	net.Conn
	owner *slotListener

	source   netip.Prefix // Who has connected, see sourceOf.
	active   bool         // A request has been read, and its response is not complete.
	progress time.Time    // When bytes last moved, or the state changed.
}

// Accept returns the next connection. It makes room for it if necessary.
func (l *slotListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &slotConn{Conn: conn, owner: l, source: sourceOf(conn.RemoteAddr()), progress: time.Now()}
	l.mu.Lock()
	var closing *slotConn
	if len(l.open) >= l.slots {
		closing = l.victim()
		delete(l.open, closing)
	}
	l.open[c] = struct{}{}
	l.mu.Unlock()
	if closing != nil {
		closing.reset()
	}
	return c, nil
}

// victim returns the connection that gives way: one without a request rather than one with, then one of the source that
// has the most of that kind, then the one that has made no progress for the longest. So a source that fills the slots
// displaces itself, and cannot displace a probe from elsewhere. The caller holds the mutex; all slots are taken.
func (l *slotListener) victim() (v *slotConn) {
	counts := make(map[netip.Prefix]int)
	idle := false
	for c := range l.open {
		idle = idle || !c.active
	}
	for c := range l.open {
		if c.active != idle {
			counts[c.source]++
		}
	}
	for c := range l.open {
		if c.active == idle {
			continue
		}
		if v == nil || counts[c.source] > counts[v.source] ||
			counts[c.source] == counts[v.source] && c.progress.Before(v.progress) {
			v = c
		}
	}
	return v
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
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // Fails only on a closed socket.
	}
	_ = c.Conn.Close() // A displaced connection has nobody to report to.
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
		if c.active {
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
	return c.Conn.Close()
}

// changed is the server's ConnState hook. The server calls a connection active once it has read a complete head.
func (l *slotListener) changed(conn net.Conn, state http.ConnState) {
	c, ok := conn.(*slotConn)
	if !ok || state != http.StateActive && state != http.StateIdle {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.active, c.progress = state == http.StateActive, time.Now()
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
