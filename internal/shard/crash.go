package shard

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"wsd/internal/wire"
)

// turnPart is a part of a turn, in the order in which turnOver does them.
type turnPart uint8

const (
	partWait turnPart = iota
	partWaiting
	partEvents
	partInbox
	partTimers
	partDeliver
	partEnd
	partClose
	partSurvey
	partFlush
	partCounting
)

func (p turnPart) String() string {
	return [...]string{"waiting for events", "acting on input that turns before had put off", "serving ready sockets",
		"taking the inbox", "running timers", "delivering batches of the bus", "ending subscriptions and connections",
		"closing connections to drain or stop", "looking for what an operator asked for", "flushing",
		"counting the turn"}[p]
}

// doing is what the shard is at, for the report of a panic. Setting it costs a store.
type doing struct {
	part  turnPart
	event wire.Event // The last event of the connection.
	busy  bool       // It is at the connection in slot.
	slot  uint32
}

// begin notes that a part of the turn begins.
func (s *Shard) begin(part turnPart) { s.doing = doing{part: part} }

// on notes that the shard is at a connection.
func (d *doing) on(c *conn) { d.slot, d.busy, d.event = c.slot, true, wire.EventNone }

const (
	// crashCode is the exit code of Go's own panics.
	crashCode = 2
	// crashTime is how long the report of a panic may take, such as when nobody reads the log.
	crashTime = 800 * time.Millisecond
	// panicTextMax keeps what clients sent out of the log, in case it is a part of the panic's text.
	panicTextMax = 200
)

// crash reports a panic of the loop and ends the process: the shard's state cannot be trusted any longer, clients would
// wait for ever, and a supervisor starts wsd anew. It must be deferred.
//
// It does not panic again, because Go would stop all goroutines and then wait for a log that nobody reads.
func (s *Shard) crash() {
	cause := recover() //nolint:revive // It is deferred, see above.
	if cause == nil {
		return
	}
	stack := debug.Stack()
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		s.report(cause, stack)
	}()
	select {
	case <-reported:
	case <-time.After(crashTime):
	}
	os.Exit(crashCode)
}

// report logs what the shard was doing and what it held. Of what clients have sent it logs nothing.
func (s *Shard) report(cause any, stack []byte) {
	text := fmt.Sprint(cause)
	fields := []any{"shard", s.opts.ID, "panic", text[:min(len(text), panicTextMax)], "doing", s.doing.part.String()}
	s.opts.Logger.Error("BUG: a shard panicked: wsd ends", append(fields, s.describeDoing()...)...)
	s.opts.Logger.Error("what the shard that panicked held", append([]any{"shard", s.opts.ID}, s.describeState()...)...)
	// A handler that writes later has to do so before the process ends.
	if later, ok := s.opts.Logger.Handler().(interface{ Flush() }); ok {
		later.Flush()
	}
	_, _ = os.Stderr.Write(stack) // There is nothing left to do about an error.
}

// describeDoing describes the connection or channel that the shard was at. It stops at whatever panics again.
func (s *Shard) describeDoing() (fields []any) {
	defer func() { _ = recover() }()
	if s.channels.walking != 0 {
		ch := &s.channels.list[s.channels.walking-1]
		fields = append(fields, "channel_subscribers", len(ch.subscribers))
	}
	if !s.doing.busy {
		return fields
	}
	fields = append(fields, "slot", s.doing.slot, "event", s.doing.event.String())
	c := s.slab.get(s.doing.slot)
	return append(fields, "generation", c.generation, "state", c.state.String(), "dialect", c.variant.String(),
		"client", s.proxied.client(c).String(), "subscriptions", len(c.subs), "queued_bytes", c.out.cost)
}

// describeState describes the shard's sums, and how many connections are in each state. It stops at whatever panics
// again.
func (s *Shard) describeState() (fields []any) {
	defer func() { _ = recover() }()
	p := &s.sender.pacing
	fields = []any{
		"connections", s.connections, "clients", s.clients, "turns", s.stats.Turns.Load(), "tick", s.tick,
		"outbound_bytes", s.sender.bytes, "shared_bytes", s.sender.shared, "parked_bytes", s.sender.parkedBytes,
		"inbound_bytes", s.inbound.bytes, "accounted_bytes", s.accounted, "memory_used", s.opts.Memory.Used(),
		"memory_limit", s.opts.Memory.Limit, "blocked", p.blocked, "behind", p.behind, "conflating", p.conflating,
		"holds", len(s.sender.holds.list) - 1 - len(s.sender.holds.free), "channels", len(s.channels.list),
		"recovering", len(s.recoveries.waiting), "flows", len(s.flows.bySlot), "recalls", len(s.recalls.channels),
		"put_off", len(s.completions.putOff), "waiting", len(s.work.waiting), "dirty", len(s.outlet.dirty),
		"failed", len(s.outlet.failed), "segments", len(s.gatherer.segments), "closing", s.closing,
	}
	var states [stateCount]int
	s.slab.each(func(c *conn) { states[c.state]++ })
	for state := stateProxy; state < stateCount; state++ {
		fields = append(fields, "in_"+state.String(), states[state])
	}
	return fields
}
