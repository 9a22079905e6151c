package shard

// parkedMax bounds what a shard holds for its connections outside of their outboxes.
func (s *sender) parkedMax() int { return s.outboundMax * parkedMany }

// park appends k to q.
func (s *sender) park(q *parked, k chunk) {
	s.holds.share(k.hold)
	q.chunks = append(q.chunks, k)
	q.cost += k.cost()
	s.parkedBytes += k.cost()
}

// discardParked empties q without counting, of what will be read again or was queued.
func (s *sender) discardParked(q *parked) {
	for i := range q.chunks {
		s.holds.drop(q.chunks[i].hold)
	}
	s.parkedBytes -= q.cost
	*q = parked{}
}

// unpark empties q: into o, as far as there is room, or with o nil to nowhere.
func (s *sender) unpark(q *parked, o *outbox) (v verdict) {
	for _, k := range q.chunks {
		if o == nil || v != verdictOK {
			s.drop(k.publications)
		} else {
			v = s.offer(o, k)
		}
	}
	s.discardParked(q)
	return v
}
