package bus

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"wsd/loadtest/baseline/shm"
)

// readBytes is the buffer of one connection of the bus. It grows to the largest message.
const readBytes = 64 << 10

// Receiver reads what publishers send to one shard.
type Receiver struct {
	board    *shm.Board
	shard    int
	deliver  func([]Incoming)
	log      *slog.Logger
	listener net.Listener // With sockets.
	event    *os.File     // With rings.
	wake     int          // Descriptor of event.
	stopping atomic.Bool
	done     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]int // Publisher of each connection.
}

// Listen receives by sockets. deliver gets the messages of one read.
func Listen(b *shm.Board, dir string, shard int, deliver func([]Incoming), log *slog.Logger) (*Receiver, error) {
	path := SocketPath(dir, shard)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen on the bus: %w", err)
	}
	l, err := net.Listen("unix", path) //nolint:noctx // It does not block.
	if err != nil {
		return nil, fmt.Errorf("listen on the bus: %w", err)
	}
	r := &Receiver{board: b, shard: shard, deliver: deliver, log: log, listener: l, conns: map[net.Conn]int{}}
	r.done.Go(r.accept)
	return r, nil
}

func (r *Receiver) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			if !r.stopping.Load() {
				r.log.Error("the bus accepts no more", "error", err)
			}
			return
		}
		r.done.Go(func() {
			err := r.read(conn)
			r.mu.Lock()
			delete(r.conns, conn)
			r.mu.Unlock()
			_ = conn.Close()
			if !r.stopping.Load() && !errors.Is(err, io.EOF) {
				r.log.Warn("a publisher's connection broke", "error", err)
			}
		})
	}
}

// read reads one publisher until it ends, and returns why it did.
func (r *Receiver) read(conn net.Conn) error {
	var hello [1]byte
	if _, err := io.ReadFull(conn, hello[:]); err != nil {
		return err
	}
	if hello[0] > shm.Main {
		return fmt.Errorf("read the bus: publisher %d is above %d", hello[0], shm.Main)
	}
	r.mu.Lock()
	r.conns[conn] = int(hello[0])
	r.mu.Unlock()
	buf, have := make([]byte, readBytes), 0
	var list []Incoming
	for {
		n, err := conn.Read(buf[have:])
		have += n
		used := 0
		list = list[:0]
		for {
			m, n, err := parse(buf[used:have])
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			list, used = append(list, m), used+n
		}
		if len(list) > 0 {
			r.deliver(list)
		}
		have = copy(buf, buf[used:have])
		if have == len(buf) {
			buf = slices.Grow(buf, len(buf))[:2*len(buf)]
		}
		if err != nil {
			return err
		}
	}
}

// Reached reports whether all processes that publish are connected. With rings they are from the start.
func (r *Receiver) Reached() bool {
	if r.listener == nil {
		return true
	}
	var from [shm.Main + 1]bool
	r.mu.Lock()
	for _, p := range r.conns {
		from[p] = true
	}
	r.mu.Unlock()
	for p := range from {
		s := r.board.Slot(p)
		if p != r.shard && !from[p] && s.Publishes.Load() == 1 && s.State.Load() >= shm.Listening {
			return false
		}
	}
	return true
}

// Attach receives by the rings of all publishers. event is the shard's eventfd, which the Receiver owns from now on.
func Attach(b *shm.Board, shard int, publishers []int, event int, deliver func([]Incoming),
	log *slog.Logger) (*Receiver, error) {
	// Non-blocking, so that waiting takes no thread.
	if err := unix.SetNonblock(event, true); err != nil {
		return nil, fmt.Errorf("prepare the eventfd of the ring: %w", err)
	}
	r := &Receiver{board: b, shard: shard, deliver: deliver, log: log, wake: event,
		event: os.NewFile(uintptr(event), "eventfd")}
	rings := make([]*shm.Ring, len(publishers))
	for i, p := range publishers {
		rings[i] = b.Ring(p, nil)
		rings[i].Attach(shard)
	}
	r.done.Go(func() { r.follow(rings) })
	return r, nil
}

// follow reads the rings, and sleeps while they are empty.
func (r *Receiver) follow(rings []*shm.Ring) {
	var list []Incoming
	take := func(payload []byte) {
		m, n, err := parse(payload)
		if err != nil || n == 0 {
			panic(fmt.Sprintf("BUG: the ring holds a broken message: %v", err))
		}
		list = append(list, m)
	}
	look := func() (found bool) {
		for _, ring := range rings {
			found = ring.Read(r.shard, take, func() {
				if len(list) > 0 {
					r.deliver(list)
					list = list[:0]
				}
			}) > 0 || found
		}
		return found
	}
	var count [8]byte
	for !r.stopping.Load() {
		if look() {
			continue
		}
		r.board.Sleep(r.shard)
		if look() || r.stopping.Load() { // What came before Sleep woke nobody.
			r.board.Awake(r.shard)
			continue
		}
		if _, err := r.event.Read(count[:]); err != nil {
			if !r.stopping.Load() {
				r.log.Error("wait for the ring", "error", err)
			}
			return
		}
	}
}

// Close ends receiving.
func (r *Receiver) Close() {
	r.stopping.Store(true)
	if r.event != nil {
		shm.Wake(r.wake)
	} else {
		_ = r.listener.Close()
		r.mu.Lock()
		for c := range r.conns {
			_ = c.Close()
		}
		r.mu.Unlock()
	}
	r.done.Wait()
	if r.event != nil {
		_ = r.event.Close()
	}
}
