package client

import "slices"

// order checks the numbers of the records that one client gets, which ascend by one.
type order struct {
	next  uint64 // Next number expected.
	begun bool   // Whether any record has arrived.
}

// span is the numbers from first to last.
type span struct{ first, last uint64 }

// missing is the numbers that were skipped and have not arrived since, by client.
type missing map[int32][]span

// begin prepares for a client that has just subscribed. produced is the number of records that had been sent to Kafka
// or were about to be: these may arrive, and later ones must.
func (o *order) begin(produced uint64) { *o = order{next: produced + 1} }

// take counts record seq of client who into n.
func (o *order) take(who int32, seq uint64, lost missing, n *Counters) {
	n.Deliveries++
	switch {
	case seq == o.next, !o.begun && seq < o.next:
		// Records that were sent while the client subscribed may begin anywhere below next.
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

// behind returns how many records up to last have not arrived yet, not counting skipped ones.
func (o *order) behind(last uint64) uint64 {
	if o.next > last {
		return 0
	}
	return last - o.next + 1
}

// found removes seq from the missing numbers of client who, and reports whether it was one of them.
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
