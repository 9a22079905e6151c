package shard

import (
	"sync"

	"wsd/internal/routing"
	"wsd/internal/shrink"
)

// Orders come from other goroutines, a bounded number at a time. A user may have any number of connections, so an order
// notes which they are when its turn comes, and acts on as many in a turn as the part of the turn goes.

// ordersMax bounds the orders that a shard has not carried out, and ordersBytesMax their size.
const (
	ordersMax      = 4096
	ordersBytesMax = 16 << 20
)

// orders are those that the shard has not carried out yet.
type orders struct {
	mu     sync.Mutex
	posted []posted
	count  int // Of those that wait, in posted and queue.
	bytes  int // Of these.

	// Of the shard's goroutine.
	queue []posted
	next  []connRef // Connections that the first of queue is still to be carried out for.
	begun bool      // next was filled.
}

type posted struct {
	order *Order
	done  func(changed int)

	changed int // Connections that it has changed.
}

// PostOrder has the shard carry out an order, after those that were posted before. It returns false if too many wait;
// the order is then dropped. The shard calls done, which may be nil and must not block, on its goroutine when it has
// carried the order out, with the number of connections that changed; never if it ends before. Any goroutine.
func (s *Shard) PostOrder(o *Order, done func(changed int)) bool {
	q := &s.orders
	q.mu.Lock()
	size := o.size()
	if q.count >= ordersMax || q.count > 0 && q.bytes+size > ordersBytesMax {
		q.mu.Unlock()
		return false
	}
	q.count++
	q.bytes += size
	q.posted = append(q.posted, posted{order: o, done: done})
	q.mu.Unlock()
	s.inbox.signal(signalOrders)
	return true
}

// take moves what was posted to the queue.
func (q *orders) take() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, q.posted...)
	clear(q.posted)
	q.posted = shrink.Slice(q.posted, len(q.posted))
}

// runOrders carries out orders as far as the part of the turn goes.
func (s *Shard) runOrders() {
	q := &s.orders
	for len(q.queue) > 0 && s.work.goesOn() {
		p := &q.queue[0]
		if !q.begun {
			q.next, q.begun = s.concerned(q.next[:0], p.order), true
			s.work.spendPart(1 + len(q.next)/unitsNoted)
		}
		for len(q.next) > 0 && s.work.goesOn() {
			ref := q.next[len(q.next)-1]
			q.next = q.next[:len(q.next)-1]
			s.work.spendPart(1)
			if c := s.slab.find(ref.slot, ref.generation); c != nil && c.isClient() {
				s.doing.on(c)
				if s.carryOut(c, p.order) {
					p.changed++
				}
			}
		}
		if len(q.next) > 0 {
			return
		}
		if p.order.Kind == OrderCount {
			s.countSubscribers(p.order)
		} else {
			s.stats.Orders[p.order.Kind].Add(1)
			s.stats.OrdersChanged[p.order.Kind].Add(uint64(p.changed))
		}
		if p.done != nil {
			p.done(p.changed)
		}
		size := p.order.size()
		q.queue[0] = posted{}
		if q.queue, q.begun = q.queue[1:], false; len(q.queue) == 0 {
			q.queue, q.next = nil, shrink.Slice(q.next, cap(q.next))
		}
		q.mu.Lock()
		q.count--
		q.bytes -= size
		q.mu.Unlock()
	}
}

// countSubscribers carries out an OrderCount.
func (s *Shard) countSubscribers(o *Order) {
	s.work.spendPart(1 + len(o.Names)/unitsNoted)
	counts := make([]int, len(o.Names))
	for i, name := range o.Names {
		if index, ok := s.channels.byName.Get(name); ok {
			counts[i] = len(s.channels.list[index].subscribers)
		}
	}
	o.Counted(counts)
}

// unitsNoted is how many connections can be noted in one unit of work.
const unitsNoted = 64

// concerned appends the connections that an order is for.
func (s *Shard) concerned(list []connRef, o *Order) []connRef {
	if o.HasConn {
		c := s.slab.find(o.Conn.Slot(), o.Conn.Generation())
		if c == nil || !c.isClient() || o.User != "" && s.userOf(c) != o.User {
			return list
		}
		return append(list, connRef{c.slot, c.generation})
	}
	if o.User == "" {
		return list
	}
	if index, ok := s.channels.byName.Get(string(routing.AppendUser(nil, []byte(o.User)))); ok {
		for _, sub := range s.channels.list[index].subscribers {
			list = append(list, connRef{sub.slot, s.slab.get(sub.slot).generation})
		}
	}
	if o.Kind != OrderDisconnect {
		return list
	}
	for slot := range s.identities.joins { // It is known who they are, but they have no reply yet.
		if c := s.slab.get(slot); s.userOf(c) == o.User {
			list = append(list, connRef{slot, c.generation})
		}
	}
	return list
}

// userOf returns the user of c, "" if it has none.
func (s *Shard) userOf(c *conn) string { return s.who(c).User }
