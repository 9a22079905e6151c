package shard

import (
	"sync"

	"github.com/gobwas/ws"

	"wsd/internal/wire"
	"wsd/loadtest/baseline/bus"
	"wsd/loadtest/baseline/shm"
)

// hub knows the clients of each channel.
type hub struct {
	board  *shm.Board
	stat   *shm.Slot
	shard  int
	routed bool // Whether the interest table is kept (Opt 6).

	mu       sync.Mutex
	channels map[string][]*client // Clients of a channel; client.index is the place.
	buckets  map[uint32]int       // Channels in each bucket of the interest table.
	seen     map[string]int64     // Highest offset of each partition.
	closed   bool                 // Whether no more clients are taken.
}

func newHub(b *shm.Board, shard int, routed bool) *hub {
	return &hub{board: b, stat: b.Slot(shard), shard: shard, routed: routed, channels: map[string][]*client{},
		buckets: map[uint32]int{}, seen: map[string]int64{}}
}

// add subscribes a client and queues the response to its upgrade before any message. It returns false when the shard
// is closing.
func (h *hub) add(c *client, response []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	list := h.channels[c.channel]
	if len(list) == 0 && h.routed {
		bucket := shm.Bucket(c.channel)
		if h.buckets[bucket]++; h.buckets[bucket] == 1 {
			h.board.Want(h.shard, bucket)
		}
	}
	c.index = len(list)
	h.channels[c.channel] = append(list, c)
	h.stat.Connections.Add(1)
	h.stat.Accepted.Add(1)
	c.queue.put(response)
	return true
}

// remove undoes add. It may be called again.
func (h *hub) remove(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.index < 0 {
		return
	}
	list := h.channels[c.channel]
	last := len(list) - 1
	list[c.index] = list[last]
	list[c.index].index = c.index
	list[last] = nil
	c.index = -1
	h.channels[c.channel] = list[:last]
	h.stat.Connections.Add(-1)
	if last > 0 {
		return
	}
	delete(h.channels, c.channel)
	if h.routed {
		bucket := shm.Bucket(c.channel)
		if h.buckets[bucket]--; h.buckets[bucket] == 0 {
			delete(h.buckets, bucket)
			h.board.Leave(h.shard, bucket)
		}
	}
}

// deliver queues messages for the clients of their channels. A message is encoded once for all.
func (h *hub) deliver(list []bus.Incoming) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var delivered int64
	for i := range list {
		m := &list[i]
		if last, known := h.seen[string(m.Origin)]; known && m.Offset <= last {
			h.stat.Duplicates.Add(1)
			continue
		}
		h.seen[string(m.Origin)] = m.Offset
		clients := h.channels[string(m.Channel)]
		if len(clients) == 0 {
			continue
		}
		frame := wire.AppendFrame(make([]byte, 0, len(m.Value)+10), ws.OpText, m.Value)
		for _, c := range clients {
			if c.queue.put(frame) {
				delivered++
			} else if c.slow.CompareAndSwap(false, true) {
				h.stat.Slow.Add(1)
				_ = c.conn.Close() // Its reader removes it.
			}
		}
	}
	h.stat.Deliveries.Add(delivered)
}

// close takes no more clients and returns those that are there.
func (h *hub) close() (all []*client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, list := range h.channels {
		all = append(all, list...)
	}
	return all
}

// count is the number of clients.
func (h *hub) count() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, list := range h.channels {
		n += len(list)
	}
	return n
}
