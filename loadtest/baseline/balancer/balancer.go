package balancer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"wsd/internal/wire"
	"wsd/loadtest/baseline/shm"
)

// dialTimeout is how long connecting to a shard may take.
const dialTimeout = 5 * time.Second

// Options is what New needs.
type Options struct {
	Board   *shm.Board
	Listen  string // Address for clients.
	Network string // To the shards: tcp, or unix (Opt 7).
	Direct  bool   // Opt 11: name the shard's address instead of a tunnel.
	Targets uint64 // Shards that have clients, a bit each.
	Max     int    // Highest number of tunnels.
	Log     *slog.Logger
}

// Balancer is the front of the baseline.
type Balancer struct {
	o        Options
	stat     *shm.Slot
	listener net.Listener
	running  sync.WaitGroup
	direct   *http.Server // With Direct.

	mu        sync.Mutex
	addresses [shm.ShardsMax]string // Where each shard listens; "": unknown.
	load      [shm.ShardsMax]int    // Tunnels to each shard; with Direct, clients sent there that have not come.
	sent      [shm.ShardsMax]int64  // Direct: clients that it has accepted when load was counted.
	counted   time.Time             // Direct: when load was last set to 0.
	turn      int                   // Where the search begins, so that equal shards take turns.
	conns     map[net.Conn]struct{} // Of clients; nil when closed.
}

// New listens for clients.
func New(o Options) (*Balancer, error) {
	config := net.ListenConfig{KeepAlive: -1} // As the shards, see there.
	l, err := config.Listen(context.Background(), "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	b := &Balancer{o: o, stat: o.Board.Slot(shm.Main), listener: l, conns: map[net.Conn]struct{}{}}
	if o.Direct {
		b.direct = &http.Server{Handler: http.HandlerFunc(b.assign), ReadHeaderTimeout: dialTimeout,
			IdleTimeout: dialTimeout, MaxHeaderBytes: 4 << 10}
	}
	return b, nil
}

// Addr is the address for clients.
func (b *Balancer) Addr() string { return b.listener.Addr().String() }

// SetAddress says where a shard listens; "" when it is down.
func (b *Balancer) SetAddress(shard int, address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addresses[shard] = address
	b.sent[shard] = 0
}

// Serve takes clients until Close.
func (b *Balancer) Serve() error {
	if b.o.Direct {
		if err := b.direct.Serve(b.listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
	for {
		conn, err := b.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			b.o.Log.Warn("accept a connection", "error", err)
			time.Sleep(50 * time.Millisecond) // Such as without descriptors: tunnels will end.
		default:
			b.running.Go(func() { b.tunnel(conn) })
		}
	}
}

// choose returns the shard with the fewest connections among those that take clients, and counts one more for it.
func (b *Balancer) choose(tried uint64) (shard int, address string, ok bool) {
	ready := b.o.Board.Live(shm.Ready) & b.o.Targets &^ tried
	b.mu.Lock()
	defer b.mu.Unlock()
	shard = -1
	best := 0
	n := b.o.Board.Shards()
	for k := range n {
		i := (b.turn + k) % n
		if ready&(1<<i) == 0 || b.addresses[i] == "" {
			continue
		}
		if load := b.loadLocked(i); shard < 0 || load < best {
			shard, best = i, load
		}
	}
	if shard < 0 {
		return 0, "", false
	}
	b.turn = (shard + 1) % n
	b.load[shard]++
	return shard, b.addresses[shard], true
}

// forgetAfter is when clients that were sent to a shard and did not come are no longer expected there.
const forgetAfter = 10 * time.Second

func (b *Balancer) loadLocked(i int) int {
	if !b.o.Direct {
		return b.load[i]
	}
	s := b.o.Board.Slot(i)
	if time.Since(b.counted) > forgetAfter {
		clear(b.load[:])
		b.counted = time.Now()
	}
	accepted := s.Accepted.Load() + s.Refused.Load()
	if came := int(accepted - b.sent[i]); came > 0 {
		b.load[i] = max(0, b.load[i]-came)
	}
	b.sent[i] = accepted
	return int(s.Connections.Load()) + b.load[i]
}

func (b *Balancer) leave(shard int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.load[shard]--
}

var (
	rejectNone = &wire.Reject{Status: http.StatusServiceUnavailable, Body: "No shard takes clients; try again."}
	rejectFull = &wire.Reject{Status: http.StatusServiceUnavailable, Body: "The load balancer is full; try again."}
)

// tunnel is the life of a client's connection.
func (b *Balancer) tunnel(client net.Conn) {
	defer func() { _ = client.Close() }()
	if !b.enter(client) {
		refuse(client, rejectFull)
		return
	}
	defer b.exit(client)
	shard, backend := b.reach()
	if backend == nil {
		refuse(client, rejectNone)
		return
	}
	defer b.leave(shard)
	defer func() { _ = backend.Close() }()
	b.stat.Tunnels.Add(1)
	defer b.stat.Tunnels.Add(-1)
	up := make(chan struct{})
	go func() {
		defer close(up)
		pass(backend, client)
	}()
	pass(client, backend)
	<-up
}

// reach connects to the shard with the fewest connections, or to the next one while that fails.
func (b *Balancer) reach() (shard int, conn net.Conn) {
	var tried uint64
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	for {
		shard, address, ok := b.choose(tried)
		if !ok {
			return 0, nil
		}
		conn, err := dialer.DialContext(context.Background(), b.o.Network, address)
		if err == nil {
			return shard, conn
		}
		b.o.Log.Warn("connect to a shard", "shard", shard, "error", err)
		b.leave(shard)
		tried |= 1 << shard
	}
}

func refuse(conn net.Conn, r *wire.Reject) {
	_ = conn.SetDeadline(time.Now().Add(dialTimeout))
	// With the request unread, closing would reset the connection before the client has read the answer.
	var request [4 << 10]byte
	if _, err := conn.Read(request[:]); err == nil {
		_, _ = conn.Write(wire.AppendReject(nil, r)) // It is closed anyway.
	}
}

func (b *Balancer) enter(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conns == nil || len(b.conns) >= b.o.Max {
		return false
	}
	b.conns[c] = struct{}{}
	return true
}

func (b *Balancer) exit(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
}

// StopAccepting takes no more clients.
func (b *Balancer) StopAccepting() { _ = b.listener.Close() }

// Close ends all tunnels and waits for them.
func (b *Balancer) Close() {
	b.StopAccepting()
	if b.direct != nil {
		_ = b.direct.Close()
	}
	b.mu.Lock()
	for c := range b.conns {
		_ = c.Close()
	}
	b.conns = nil
	b.mu.Unlock()
	b.running.Wait()
}

// assign names the shard for one client: as JSON at /assign, as a redirection for an upgrade request.
func (b *Balancer) assign(w http.ResponseWriter, r *http.Request) {
	_, address, ok := b.choose(0)
	switch {
	case !ok:
		http.Error(w, rejectNone.Body, rejectNone.Status)
	case r.URL.Path == "/assign":
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\"address\":%q}\n", address)
	default:
		http.Redirect(w, r, "ws://"+address+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	}
}
