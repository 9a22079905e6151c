package shard

import (
	"math"

	"wsd/internal/bus"
)

// The bus is one queue, and one channel's backlog on it must not delay another channel's message. So when a turn
// leaves batches on the bus, because its budget is used up or because the brake holds (pace.go), it looks through the
// rest, each batch once, and gathers segments that are small and would overtake nothing of their own channel.
const (
	aheadBytes   = 16 << 10 // Of values that a channel may get ahead in a turn, including those that it got in order.
	aheadBatches = 1024     // Batches looked at in a turn.
)

// aheadState is what a channel's order needs when segments are gathered ahead.
type aheadState struct {
	servedSeq uint64 // Up to this sequence the channel's segments have been gathered; the cursor passes over them.
	leftSeq   uint64 // A segment of this sequence was left: until the cursor is past it, later ones are left too.
	got       uint32 // Bytes of values that the channel got in turn gotTurn.
	gotTurn   uint32
}

// ahead gathers what may overtake the backlog. With braking, channels are left some of whose subscribers are
// blocked: the brake holds for those. It returns whether there may be batches that it has not looked at.
func (g *gatherer) ahead(braking bool) (more bool) {
	next, state := g.opts.Cursor.Next()
	if state != bus.StateReady {
		return false
	}
	budget := g.opts.Limits.BatchBytesPerTurn
	g.aheadSeq = max(g.aheadSeq, next.Seq)
	for range aheadBatches {
		batch := g.opts.Cursor.Peek(g.aheadSeq)
		if batch == nil || batch.Break != nil { // Nothing overtakes a break.
			return false
		}
		if budget <= 0 {
			return true
		}
		g.aheadSeq++
		taken := false
		for _, segment := range batch.SegmentsOf(g.opts.ID) {
			index, ok := g.channels.indexOf(segment)
			if !ok || index >= toConnection { // Messages that no subscription asked for wait for the cursor.
				continue
			}
			ch := &g.channels.list[index]
			a := &ch.ahead
			switch {
			case batch.Seq == a.servedSeq && a.gotTurn == g.turn:
				// Messages split the channel's records in this batch; they go together.
				g.add(batch, segment, index)
				budget -= segment.Bytes
			case batch.Seq <= a.servedSeq: // From before the channel's first subscription.
			case a.leftSeq >= next.Seq, a.gotIn(g.turn)+segment.Bytes > aheadBytes,
				braking && g.channels.anyBlocked(ch):
				a.leftSeq = batch.Seq
			default:
				a.servedSeq = batch.Seq
				g.add(batch, segment, index)
				budget -= segment.Bytes
				taken = true
			}
		}
		if taken {
			g.times = append(g.times, batchTimes{batch.Oldest, batch.Sealed})
		}
	}
	return true
}

// gotIn returns the bytes of values that the channel has got in a turn.
func (a *aheadState) gotIn(turn uint32) int {
	if a.gotTurn != turn {
		return 0
	}
	return int(a.got)
}

// add counts bytes of values that the channel gets in a turn.
func (a *aheadState) add(turn uint32, bytes int) {
	a.got, a.gotTurn = uint32(min(a.gotIn(turn)+bytes, math.MaxUint32)), turn
}
