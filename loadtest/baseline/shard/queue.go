package shard

import (
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/panjf2000/ants/v2"

	"wsd/internal/wire"
)

// writeTimeout is how long a write to a client may take.
const writeTimeout = 10 * time.Second

// gatherMax is how many waiting messages one write takes.
const gatherMax = 64

// queue is what waits for a client. put never blocks and returns false when the queue is full or closed.
type queue interface {
	put(frame []byte) bool
	close()
}

// channelQueue is a buffered channel and a goroutine that writes what comes out of it, and pings.
type channelQueue struct {
	frames chan []byte
	end    chan struct{}
	once   sync.Once
}

func newChannelQueue(size int) *channelQueue {
	return &channelQueue{frames: make(chan []byte, size), end: make(chan struct{})}
}

func (q *channelQueue) put(frame []byte) bool {
	select {
	case q.frames <- frame:
		return true
	default:
		return false
	}
}

func (q *channelQueue) close() { q.once.Do(func() { close(q.end) }) }

// write is the writing goroutine.
func (q *channelQueue) write(conn net.Conn, pingInterval time.Duration) {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	ping := wire.AppendFrame(nil, ws.OpPing, nil)
	var list net.Buffers
	for {
		select {
		case frame := <-q.frames:
			list = append(list[:0], frame)
			for len(q.frames) > 0 && len(list) < gatherMax {
				list = append(list, <-q.frames)
			}
			if send(conn, list) != nil {
				_ = conn.Close()
				return
			}
		case <-ticker.C:
			if send(conn, net.Buffers{ping}) != nil {
				_ = conn.Close()
				return
			}
		case <-q.end:
			return
		}
	}
}

// send writes frames with one system call, as far as the socket takes them.
func send(conn net.Conn, list net.Buffers) error {
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	var err error
	if len(list) == 1 {
		_, err = conn.Write(list[0])
	} else {
		_, err = list.WriteTo(conn)
	}
	return err
}

// poolQueue is a list, and a job of the pool that runs while the list is not empty.
type poolQueue struct {
	conn net.Conn
	pool *ants.Pool
	max  int

	timer *time.Timer // Pings.

	mu      sync.Mutex
	frames  [][]byte
	writing bool // Whether a job runs.
	closed  bool
}

func (q *poolQueue) put(frame []byte) bool {
	q.mu.Lock()
	if q.closed || len(q.frames) >= q.max {
		q.mu.Unlock()
		return false
	}
	q.frames = append(q.frames, frame)
	start := !q.writing
	q.writing = true
	q.mu.Unlock()
	// The pool has room for two jobs per client, so Submit does not wait; it fails when the shard stops.
	if start && q.pool.Submit(q.write) != nil {
		_ = q.conn.Close()
	}
	return true
}

func (q *poolQueue) close() {
	q.mu.Lock()
	q.closed, q.frames = true, nil
	q.mu.Unlock()
	q.timer.Stop()
}

// write is the job.
func (q *poolQueue) write() {
	for {
		q.mu.Lock()
		n := min(len(q.frames), gatherMax)
		if n == 0 {
			q.writing = false
			q.mu.Unlock()
			return
		}
		first := q.frames[0]
		var list net.Buffers // WriteTo consumes its list, so it gets one of its own.
		if n > 1 {
			list = append(list, q.frames[:n]...)
		}
		rest := copy(q.frames, q.frames[n:])
		clear(q.frames[rest:])
		q.frames = q.frames[:rest]
		q.mu.Unlock()
		if list == nil {
			list = net.Buffers{first}
		}
		if send(q.conn, list) != nil {
			_ = q.conn.Close()
			q.close()
			return
		}
	}
}
