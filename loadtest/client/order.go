package client

import "slices"

// order follows the numbers of the records that one client gets. They ascend by one.
type order struct {
	next  uint64 // Number that must come now.
	begun bool   // Any record has come.
}

// span is the numbers from first to last.
type span struct{ first, last uint64 }

// missing holds, per client that has any, the numbers that were skipped and have not come since.
type missing map[int32][]span

// begin prepares for a client that has just been subscribed, when produced records had been given to Kafka or were about to be: those
// may come, the later ones must.
func (o *order) begin(produced uint64) { *o = order{next: produced + 1} }

// take counts record seq of client who into n.
func (o *order) take(who int32, seq uint64, lost missing, n *Counters) {
	n.Deliveries++
	switch {
	case seq == o.next, !o.begun && seq < o.next:
		// What was under way while the client was being subscribed may begin anywhere below next.
		o.next = seq + 1
	case seq > o.next:
		n.Gaps++
		n.Lost += int64(seq - o.next)
		lost[who] = append(lost[who], span{o.next, seq - 1})
		o.next = seq + 1
	case lost.found(who, seq):
		n.Reordered++
		n.Lost--
	default:
		n.Duplicates++
	}
	o.begun = true
}

// behind is how many records up to last have not come yet, those that were skipped aside.
func (o *order) behind(last uint64) uint64 {
	if o.next > last {
		return 0
	}
	return last - o.next + 1
}

// found removes seq from what client who misses and reports whether it was there.
func (m missing) found(who int32, seq uint64) bool {
	spans := m[who]
	i := slices.IndexFunc(spans, func(s span) bool { return s.first <= seq && seq <= s.last })
	if i < 0 {
		return false
	}
	s := spans[i]
	rest := make([]span, 0, 2)
	if s.first < seq {
		rest = append(rest, span{s.first, seq - 1})
	}
	if seq < s.last {
		rest = append(rest, span{seq + 1, s.last})
	}
	if spans = slices.Replace(spans, i, i+1, rest...); len(spans) == 0 {
		delete(m, who)
		return true
	}
	m[who] = spans
	return true
}
