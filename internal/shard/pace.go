package shard

// A backlog on the bus (Kafka was away, the process was stopped) can be gathered far faster than any network takes
// it: without a brake every client, however healthy, would soon have more than OutboundMax waiting and be closed as
// slow. So a shard leaves batches on the bus for a moment while clients are behind. The ring passes the pressure on
// to the source, which then stops fetching.
//
// A slow client must not hold up the others for long. There are three cases:
//
//   - Most clients are behind together: the shard is too fast. The brake holds whenever that is so, as long as they
//     take bytes.
//   - Many are behind, though not most, and the bus holds more than half of OutboundMax, which a client that keeps up
//     could not take at once. The brake holds as well, but this case and the next share a budget of time.
//   - Some have more than half of OutboundMax waiting while the bus holds as much. The budget ends this for a client
//     that is slower than its channel, which then meets its limit.
//
// A client that conflates is in none of them: it cannot have more waiting than its keys, and needs no brake.
//
// The brake never holds for longer than paceTicks without letting a gather through, so that the bus sees the shard
// move.
const (
	pacePart  = 4  // Most or many: for each blocked client OutboundMax/pacePart waits, on average,
	paceDone  = 16 // until no more than OutboundMax/paceDone waits for each client.
	paceMany  = 4  // Many: at least paceMany clients are blocked,
	paceShare = 8  // and one in paceShare.
	paceTicks = 5  // 250 ms: less than any sensible bus.stall_max.
	paceIdle  = 2  // 50 to 100 ms in which no blocked client takes a byte end it early.

	paceBudget = 200 // 10 s, spent by holding,
	paceRefill = 10  // and given back at a tenth of that speed.
)

// pacing is the brake: what the sender counts for it, and its state.
type pacing struct {
	blocked  int64  // Connections that are blocked and do not conflate.
	progress uint64 // Bytes that the kernel has taken of those, ever.
	behind   int64  // Connections that fell behind in this round: more than half of OutboundMax waits.
	round    uint32 // Ends when those behind take nothing while the brake holds for them: it no longer holds for them.

	conflating      int64 // Connections that conflate,
	conflatingBytes int64 // and what waits for them.

	together bool   // It holds for most or many clients.
	most     bool   // It holds for most.
	since    uint32 // Tick at which it began to hold.
	until    uint32 // Tick at which it lets go at the latest; 0: it does not hold.
	check    uint32 // Tick by which progress must have been made.
	seen     uint64 // progress at the last decision.
	stuck    bool   // There was none at the last decision.

	spent   uint32 // Ticks of the budget in use at tick spentAt.
	spentAt uint32
}

// paceInput is what the brake decides by.
type paceInput struct {
	tick        uint32
	outboundMax int64
	clients     int64  // All of the shard.
	bytes       int64  // That wait for all of them.
	ready       bool   // A batch is on the bus.
	backlog     uint64 // Bytes of values on the bus.
}

// decide reports whether the bus is to be left alone in this turn.
func (p *pacing) decide(in paceInput) (hold bool) {
	if p.progress != p.seen {
		p.seen, p.stuck, p.check = p.progress, false, in.tick+paceIdle
	}
	in.clients -= p.conflating
	in.bytes -= p.conflatingBytes
	if p.until == 0 {
		return p.begin(in)
	}
	caughtUp := p.behind == 0
	if p.together {
		caughtUp = in.bytes <= in.clients*(in.outboundMax/paceDone)
	}
	p.stuck = in.tick >= p.check
	if !caughtUp && !p.stuck && in.tick < p.until {
		return true
	}
	if !caughtUp && p.stuck {
		p.behind = 0
		p.round++
	}
	if !p.most {
		p.spent += in.tick - p.since
	}
	p.until = 0
	return false
}

// begin decides while the brake does not hold.
func (p *pacing) begin(in paceInput) (hold bool) {
	if p.blocked == 0 || !in.ready {
		return false
	}
	affordable := in.backlog > uint64(in.outboundMax/2) && p.refill(in.tick) < paceBudget
	most := p.blocked*2 > in.clients
	many := affordable && p.blocked >= paceMany && p.blocked*paceShare >= in.clients
	p.together = !p.stuck && (most || many) && in.bytes > p.blocked*(in.outboundMax/pacePart)
	p.most = p.together && most
	if !p.together && (!affordable || p.behind == 0) {
		return false
	}
	p.since, p.until, p.check = in.tick, in.tick+paceTicks, in.tick+paceIdle
	return true
}

// refill gives back what time has earned and returns what is spent.
func (p *pacing) refill(tick uint32) uint32 {
	earned := (tick - p.spentAt) / paceRefill
	p.spent -= min(p.spent, earned)
	p.spentAt += earned * paceRefill
	return p.spent
}

// wakeAt returns the tick at which decide is to be called again at the latest; 0: no tick in particular.
func (p *pacing) wakeAt() uint32 {
	if p.until == 0 {
		return 0
	}
	return min(p.until, p.check)
}

// tally counts o n times where it belongs: among those that conflate or those that are blocked.
func (s *sender) tally(o *outbox, n int64) {
	switch {
	case o.merge != nil:
		s.pacing.conflating += n
		s.pacing.conflatingBytes += n * int64(o.cost)
	case o.blocked:
		s.pacing.blocked += n
	}
}

// noteBehind counts o among those that are behind, or no longer.
func (s *sender) noteBehind(o *outbox) {
	p := &s.pacing
	switch isBehind := o.cost > s.outboundMax/2 && o.merge == nil; {
	case isBehind && o.behindRound == 0:
		o.behindRound = p.round
		p.behind++
	case !isBehind && o.behindRound != 0:
		if o.behindRound == p.round {
			p.behind--
		}
		o.behindRound = 0
	}
}
