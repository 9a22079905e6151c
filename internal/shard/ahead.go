package shard

import "wsd/internal/bus"

// The bus is one queue, and one channel's backlog on it must not delay another channel's message. So when a turn leaves batches on
// the bus, because its budget is used up or because the brake holds (pace.go), it looks through the rest, each batch once, and takes
// what is little and ahead of nothing of its own channel:
//
//   - channel.servedSeq: up to there the channel's segments have been taken ahead, and the cursor passes over them;
//   - channel.heldSeq: a segment there was left. Until the cursor is past it, later ones are left, too: a channel's order is kept.
const (
	aheadBytes   = 16 << 10 // Of values that a channel may have taken ahead in a turn, those that it got in order included.
	aheadBatches = 1024     // Looked at in a turn.
)

// takeAhead appends to s.pendings. With hold, channels wait some of whose subscribers wait for the kernel: they are what the brake
// holds for. It returns whether there may be batches that it has not looked at.
func (s *Shard) takeAhead(hold bool) (more bool) {
	next, state := s.cursor.Next()
	if state != bus.StateReady {
		return false
	}
	budget := s.limits.BatchBytesPerTurn
	s.aheadSeq = max(s.aheadSeq, next.Seq)
	for range aheadBatches {
		batch := s.cursor.Peek(s.aheadSeq)
		if batch == nil || batch.Break != nil { // Nothing is taken ahead of a break.
			return false
		}
		if budget <= 0 {
			return true
		}
		s.aheadSeq++
		taken := false
		for _, segment := range batch.SegmentsOf(s.id) {
			index, ok := s.wants(segment)
			if !ok || index >= toConnection { // Messages that no subscription asked for wait for the cursor.
				continue
			}
			ch := &s.channels[index]
			switch {
			case batch.Seq == ch.servedSeq && ch.gotTurn == s.turnNumber: // Messages part its records in this batch, which go together.
				s.take(batch, segment, index)
				budget -= segment.Bytes
			case batch.Seq <= ch.servedSeq: // From before the channel's first subscription.
			case ch.heldSeq >= next.Seq, s.gotInTurn(ch)+segment.Bytes > aheadBytes, hold && s.anyBlocked(ch):
				ch.heldSeq = batch.Seq
			default:
				ch.servedSeq = batch.Seq
				s.take(batch, segment, index)
				budget -= segment.Bytes
				taken = true
			}
		}
		if taken {
			s.oldest = append(s.oldest, batch.Oldest)
		}
	}
	return true
}

// gotInTurn returns the bytes of values that the channel has got in this turn.
func (s *Shard) gotInTurn(ch *channel) int {
	if ch.gotTurn != s.turnNumber {
		return 0
	}
	return int(ch.got)
}

// anyBlocked reports whether a subscriber of the channel waits until the kernel takes more.
func (s *Shard) anyBlocked(ch *channel) bool {
	for i := range ch.subscribers {
		if s.slab.get(ch.subscribers[i].slot).wantWritable {
			return true
		}
	}
	return false
}
