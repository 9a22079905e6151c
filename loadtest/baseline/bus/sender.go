package bus

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"wsd/loadtest/baseline/shm"
)

// The bounds of a batch (Opt 4).
const (
	batchMessages = 10
	batchAge      = 10 * time.Millisecond
)

const (
	dialInterval = 50 * time.Millisecond // Between two looks for shards that are not connected.
	writeTimeout = 10 * time.Second      // After this time a shard that does not read is taken for dead.
)

// SenderOptions is what NewSender needs.
type SenderOptions struct {
	Board   *shm.Board
	Self    int    // Number of this publisher: a shard, or shm.Main.
	Dir     string // Directory of the shards' sockets.
	Batch   bool   // Opt 4.
	Routed  bool   // Opt 6.
	Ring    bool   // Opt 10.
	Events  []int  // Eventfds of the shards, with Ring.
	Targets uint64 // Shards that have clients, a bit each.

	// Local delivers to this process's own clients, with sockets; nil if it has none. With Ring they read the ring.
	Local func([]Incoming)
	Log   *slog.Logger
}

// Sender publishes the messages of one process.
type Sender struct {
	o    SenderOptions
	stat *shm.Slot
	ring *shm.Ring
	stop chan struct{}
	done sync.WaitGroup

	mu      sync.Mutex
	peers   [shm.ShardsMax]net.Conn // Connected shards.
	pending []Message
	timer   *time.Timer // Flushes a batch that does not fill; nil without Batch.
	armed   bool        // Whether timer runs.
	all     []byte      // Encoded messages.
	some    []byte      // Those of them that one shard wants.
	masks   []uint64    // Shards that want a message, by message.
	ends    []int       // End of a message in all, by message.
	local   []Incoming
}

// NewSender returns a Sender that begins to connect to the shards. The caller must call Close.
func NewSender(o SenderOptions) *Sender {
	s := &Sender{o: o, stat: o.Board.Slot(o.Self), stop: make(chan struct{})}
	if o.Batch {
		s.timer = time.AfterFunc(time.Hour, s.flushLate)
		s.timer.Stop()
	}
	if o.Ring {
		s.ring = o.Board.Ring(o.Self, o.Events)
	} else {
		s.done.Go(s.connect)
	}
	return s
}

// SocketPath returns the bus socket of a shard.
func SocketPath(dir string, shard int) string {
	return filepath.Join(dir, fmt.Sprintf("bus-%d.sock", shard))
}

// connect keeps connections to all shards.
func (s *Sender) connect() {
	ticker := time.NewTicker(dialInterval)
	defer ticker.Stop()
	for {
		missing := s.o.Board.Live(shm.Listening) & s.o.Targets &^ s.connected()
		for i := range s.o.Board.Shards() {
			if i != s.o.Self && missing&(1<<i) != 0 {
				s.dial(i)
			}
		}
		select {
		case <-s.stop:
			return
		case <-ticker.C:
		}
	}
}

func (s *Sender) dial(shard int) {
	conn, err := net.DialTimeout("unix", SocketPath(s.o.Dir, shard), writeTimeout) //nolint:noctx // It has a timeout.
	if err != nil {
		s.o.Log.Debug("connect to the bus of a shard", "shard", shard, "error", err)
		return
	}
	// The shard accepts clients once it has read this, so what is published from here on must reach it.
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err = conn.Write([]byte{byte(s.o.Self)}); err != nil {
		s.o.Log.Debug("connect to the bus of a shard", "shard", shard, "error", err)
		_ = conn.Close()
		return
	}
	s.peers[shard] = conn
}

func (s *Sender) connected() (mask uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.peers {
		if c != nil {
			mask |= 1 << i
		}
	}
	return mask
}

// WaitConnected waits until every shard that listens is connected.
func (s *Sender) WaitConnected(ctx context.Context) error {
	if s.o.Ring {
		return nil
	}
	for {
		missing := s.o.Board.Live(shm.Listening) & s.o.Targets &^ s.connected()
		if s.o.Self != shm.Main {
			missing &^= 1 << s.o.Self
		}
		if missing == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("connect to the bus of the shards: %w", ctx.Err())
		case <-time.After(dialInterval / 2):
		}
	}
}

// Publish sends a message to the shards. It blocks while one of them does not read.
func (s *Sender) Publish(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, m)
	s.stat.Published.Add(1)
	switch {
	case !s.o.Batch || len(s.pending) >= batchMessages:
		s.flushLocked()
	case !s.armed:
		s.armed = true
		s.timer.Reset(batchAge)
	}
}

func (s *Sender) flushLate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = false
	s.flushLocked()
}

func (s *Sender) flushLocked() {
	if len(s.pending) == 0 {
		return
	}
	if s.armed {
		s.timer.Stop()
		s.armed = false
	}
	s.stat.Flushes.Add(1)
	s.all, s.masks, s.ends = s.all[:0], s.masks[:0], s.ends[:0]
	common, some := s.o.Targets, uint64(0)
	for i := range s.pending {
		m := &s.pending[i]
		mask := s.o.Targets
		if s.o.Routed {
			mask &= s.o.Board.Wanting(shm.Bucket(m.Channel))
		}
		common &= mask
		some |= mask
		s.all = m.append(s.all)
		s.masks, s.ends = append(s.masks, mask), append(s.ends, len(s.all))
	}
	if s.o.Ring {
		s.toRing(some)
	} else {
		s.toSockets(common)
	}
	for i := range s.pending {
		if m := &s.pending[i]; m.Owner != nil {
			m.Owner.Sent(m.Record)
		}
		s.pending[i] = Message{}
	}
	s.pending = s.pending[:0]
}

func (s *Sender) toRing(some uint64) {
	start := 0
	for i, end := range s.ends {
		if s.masks[i] != 0 {
			if !s.ring.Write(s.masks[i], s.all[start:end], s.stop) {
				return
			}
			s.stat.RingWrites.Add(1)
		}
		s.count(s.masks[i])
		start = end
	}
	s.ring.Commit(some)
}

// count counts the shards that were spared a message.
func (s *Sender) count(mask uint64) {
	for rest := s.o.Targets &^ mask; rest != 0; rest &= rest - 1 {
		s.stat.Unrouted.Add(1)
	}
}

// toSockets sends the messages to each shard that wants them. common is those that want all.
func (s *Sender) toSockets(common uint64) {
	for _, mask := range s.masks {
		s.count(mask)
	}
	for shard := range s.o.Board.Shards() {
		b := s.all
		if common&(1<<shard) == 0 {
			if b = s.wanted(shard); len(b) == 0 {
				continue
			}
		}
		if shard == s.o.Self {
			s.deliver(b)
			continue
		}
		conn := s.peers[shard]
		if conn == nil {
			continue // It is down, or not ready for clients yet.
		}
		s.stat.SocketSends.Add(1)
		_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // If it fails, so does the write.
		if _, err := conn.Write(b); err != nil {
			s.o.Log.Warn("a shard left the bus", "shard", shard, "error", err)
			_ = conn.Close()
			s.peers[shard] = nil
		}
	}
}

// wanted returns the encoded messages that a shard wants.
func (s *Sender) wanted(shard int) []byte {
	s.some = s.some[:0]
	start := 0
	for i, end := range s.ends {
		if s.masks[i]&(1<<shard) != 0 {
			s.some = append(s.some, s.all[start:end]...)
		}
		start = end
	}
	return s.some
}

// deliver gives messages to this process's own clients.
func (s *Sender) deliver(b []byte) {
	if s.o.Local == nil {
		return
	}
	s.local = s.local[:0]
	for len(b) > 0 {
		m, n, err := parse(b)
		if err != nil || n == 0 {
			panic(fmt.Sprintf("BUG: an own message is broken: %v", err))
		}
		s.local, b = append(s.local, m), b[n:]
	}
	s.o.Local(s.local)
}

// Flush sends what waits.
func (s *Sender) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushLocked()
}

// Close sends what waits and ends the connections.
func (s *Sender) Close() {
	close(s.stop) // A ring whose reader is gone is not waited for.
	s.Flush()
	s.done.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.peers {
		if c != nil {
			_ = c.Close()
			s.peers[i] = nil
		}
	}
}
