package shard

import (
	"runtime"
	"time"

	"wsd/internal/epoll"
	"wsd/internal/stats"
)

// eventsPerTurn bounds the ready sockets that one turn serves.
const eventsPerTurn = 256

// run is the loop: turns until the shard has ended. It waits only when no part of a turn has more to do.
func (s *Shard) run() {
	defer close(s.done)
	defer s.crash()
	for more, ended := true, false; !ended; {
		more, ended = s.turnOver(!more)
	}
}

// turnOver is one turn: it serves ready sockets, the inbox, timers and the bus, ends the connections that failed, then
// flushes. With wait it first waits for something to do. It returns whether the next turn has something to do without
// waiting, and whether the shard has ended.
func (s *Shard) turnOver(wait bool) (more, ended bool) {
	s.begin(partWait)
	if wait {
		s.setTimer()
		s.opts.Load.BeginTurn(0)
		if s.accepting.before {
			// Clients come in crowds. After the other loops' turns this one often finds the next at once, which
			// spares it parking and being woken: at 64 shards 6 % of a connection's CPU time.
			runtime.Gosched()
		}
	}
	// A batch published since deliver found the bus empty has woken the poller: Wait then does not block.
	events, woken, err := s.poller.Wait(wait)
	if err != nil {
		panic("BUG: shard loop: " + err.Error())
	}
	began := time.Since(s.start)
	s.opts.Load.BeginTurn(s.startMono + uint64(began))
	s.tick = uint32(began / tickLength)
	s.gatherer.began, s.latency.at = s.startClock+int64(began), time.Time{}
	if woken {
		s.stats.Wakeups.Add(1)
	}
	s.work.begin(began)
	s.inbox.begun = 0
	s.begin(partWaiting)
	s.takeWaiting()
	s.begin(partEvents)
	s.serve(events)
	s.begin(partInbox)
	s.takeInbox()
	s.work.beginPart()
	s.runOrders()
	s.work.beginPart()
	s.recoveries.askReady()
	s.begin(partTimers)
	more = s.expireTimers(len(events))
	s.begin(partDeliver)
	more = s.deliver() || more
	s.begin(partEnd)
	s.work.beginPart()
	more = s.notifyRecalled() || more
	s.endWorn()
	s.work.beginPart()
	more = s.endFailed() || more
	s.begin(partClose)
	s.work.beginPart()
	more = s.closeDue(began) || more
	if s.closing && (!more && s.gatherer.wakeAt == 0 || int64(began) >= s.deadline.Load()) {
		if more = s.closeSome(began); !more && s.connections == 0 {
			s.lap()
			s.endTurn(began)
			s.stop()
			return false, true
		}
	}
	s.begin(partSurvey)
	s.work.beginPart()
	more = s.goOnSurveying() || more
	s.begin(partFlush)
	s.limitPinned()
	s.flushDirty()
	more = s.restTLS() || more
	s.lap()
	s.gatherer.noteTimes(s.stats, s.latency.at)
	s.begin(partCounting)
	s.endTurn(began)
	more = more || len(events) == eventsPerTurn || len(s.completions.due) > 0 ||
		len(s.work.waiting) > 0 || len(s.secured.worn) > 0 || len(s.flows.ready) > 0 || len(s.orders.queue) > 0 ||
		s.closing && s.connections == 0
	return more, false
}

// serve acts on ready sockets.
func (s *Shard) serve(events []epoll.Event) {
	for i := range events {
		ev := &events[i]
		if ev.Fd < 0 {
			if index := int(-1 - ev.Fd); index < len(s.accepting.listeners) && s.accepting.resumeAt == 0 {
				s.acceptReady(index, len(events) == eventsPerTurn)
			}
			continue
		}
		c := s.slab.get(uint32(ev.Fd))
		if c.state == stateFree || c.generation != uint32(ev.Pad) {
			continue // It ended earlier in this turn.
		}
		s.doing.on(c)
		if broken(c, ev.Events) {
			s.peerClosed(c, ReasonGone)
			continue
		}
		if ev.Events&epoll.Writable != 0 {
			s.flush(c)
			if c.out.wrote > 0 {
				s.wrote = append(s.wrote, c.slot)
			}
		}
		if ev.Events&(epoll.Readable|epoll.Broken) != 0 && c.state != stateFree {
			s.readable(c)
		}
	}
}

// takeInbox acts on what other goroutines have posted, and on completions that the turn before left.
func (s *Shard) takeInbox() {
	bits := s.inbox.takeSignals()
	if bits&signalStopAccepting != 0 {
		s.closeListeners()
	}
	if bits&signalLayouts != 0 {
		s.replaceDeferred()
	}
	if bits&signalCompletions != 0 || len(s.completions.due) > 0 {
		s.takeCompletions()
	}
	if bits&signalOrders != 0 {
		s.orders.take()
	}
	if bits&signalDrain != 0 {
		s.noteDrain()
	}
	if bits&signalSurvey != 0 {
		s.surveying = true
	}
	if bits&signalShutdown != 0 {
		s.closing = true
	}
}

// expireTimers runs what is due, as far as the part of the turn goes, and reports whether more is due. While many
// sockets are ready it waits until each connection could be read once: after a pause of the whole process the pongs are
// in the sockets, and nobody may be closed for a pong that has arrived.
func (s *Shard) expireTimers(events int) (more bool) {
	if events == eventsPerTurn && s.heldTurns <= s.slab.made*blockSlots/eventsPerTurn {
		s.heldTurns++
		return false // The turn goes on anyway: there are more events.
	}
	s.work.beginPart()
	for s.wheel.has(s.tick) && s.work.goesOn() {
		c := s.wheel.pop(s.tick)
		if c == nil {
			break
		}
		s.doing.on(c)
		s.work.spendPart(unitsTimer + len(c.subs)*unitsLeave)
		s.due(c)
	}
	// Once they have waited they go on until none is due, however many sockets are ready.
	if more = s.wheel.has(s.tick); !more {
		s.heldTurns = 0
	}
	s.work.beginPart()
	more = s.recoveries.resumePaused() || more
	if s.accepting.resumeAt != 0 && s.tick >= s.accepting.resumeAt {
		s.resumeAccepting()
	}
	return more
}

// setTimer has the loop woken for whatever is due first. The timer is only touched when that changes.
func (s *Shard) setTimer() {
	at := uint32(0)
	earlier := func(tick uint32) {
		if tick != 0 && (at == 0 || tick < at) {
			at = tick
		}
	}
	if ahead := s.wheel.next(); ahead != 0 {
		at = s.wheel.now + ahead
	}
	earlier(s.accepting.resumeAt)
	earlier(s.gatherer.wakeAt)
	earlier(s.flows.pauses.wakeAt())
	earlier(s.draining.wakeAt(s.clients))
	earlier(s.answersFull)
	earlier(s.secured.restAt)
	if s.closing {
		earlier(ticks(time.Duration(max(1, s.deadline.Load()))))
	}
	switch {
	case at == s.timerAt && at > s.tick:
	case at == 0:
		s.timer.Stop()
		s.timerAt = 0
	default:
		s.timer.Reset(time.Until(s.start.Add(time.Duration(at) * tickLength)))
		s.timerAt = at
	}
}

// closeSome says goodbye to some more connections, and at the deadline closes what is left. It returns whether there
// are others.
func (s *Shard) closeSome(now time.Duration) (more bool) {
	if int64(now) >= s.deadline.Load() {
		s.slab.each(func(c *conn) {
			if c.state != stateClosing {
				c.reason = ReasonShutdown
			}
			s.abort(c)
		})
		return false
	}
	end := s.slab.end()
	s.work.beginPart()
	for ; s.work.goesOn() && s.closeNext < end; s.closeNext++ {
		c := s.slab.at(s.closeNext)
		switch {
		case c == nil:
		case c.isClient():
			s.work.spendPart(unitsOfEnd(c))
			s.end(c, ReasonShutdown)
		case c.state == stateHead:
			s.work.spendPart(unitsOfEnd(c))
			s.refuseRequest(c, stopping, ReasonShutdown)
		case c.state == stateTLS, c.state == stateProxy:
			s.work.spendPart(unitsOfEnd(c))
			c.reason = ReasonShutdown
			s.abort(c)
		}
	}
	return s.closeNext < end
}

// endTurn makes the turn's counts visible and its slots free.
func (s *Shard) endTurn(began time.Duration) {
	s.account()
	s.shrink()
	s.reclaim()
	t, sent, g := &s.turn, &s.sender.counts, &s.gatherer
	stats.Add(&s.stats.Writes, sent.writes)
	stats.Add(&s.stats.BytesOut, sent.bytesOut)
	stats.Add(&s.stats.Deliveries, sent.deliveries)
	stats.Add(&s.stats.BytesIn, t.bytesIn)
	stats.Add(&s.stats.FramesIn, t.framesIn)
	stats.Add(&s.stats.Batches, g.batches)
	stats.Add(&s.stats.Records, g.records)
	stats.Add(&s.stats.Conflated, sent.conflated)
	stats.Add(&s.stats.Dropped, sent.dropped)
	stats.Add(&s.stats.PutOff, s.work.count)
	*t, *sent, g.batches, g.records, s.work.count = turnCounts{}, sendCounts{}, 0, 0, 0
	s.stats.OutboundBytes.Store(s.sender.bytes)
	s.stats.InboundBytes.Store(s.inbound.bytes)
	s.stats.Turns.Add(1)
	s.lastTurn = uint64(time.Since(s.start) - began)
	s.stats.TurnLastNanos.Store(s.lastTurn)
	if s.lastTurn >= stats.DurationMin {
		s.stats.LongTurns.Add(s.lastTurn)
		s.stats.TurnsRecent.Add(s.startMono+uint64(began)+s.lastTurn, s.lastTurn)
	}
	if s.lastTurn > s.stats.TurnMaxNanos.Load() {
		s.stats.TurnMaxNanos.Store(s.lastTurn)
	}
	a := &s.accepting
	s.opts.Load.EndTurn(a.accepted, a.closed, s.lastTurn)
	a.before = a.accepted > 0
	a.accepted, a.closed = 0, 0
}

// stop releases what the loop holds besides connections.
func (s *Shard) stop() {
	s.surveys.end()
	s.timer.Stop()
	s.opts.Load.BeginTurn(0)
	if err := s.poller.Close(); err != nil {
		s.opts.Logger.Error("BUG: close epoll instance", "error", err)
	}
}
