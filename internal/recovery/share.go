package recovery

import (
	"net/netip"

	"wsd/internal/shrink"
)

// shares bounds how many of the queries that wait are for one address, so that whoever opens many connections leaves
// places for others. Recovery.mu guards it.
type shares struct {
	most int                // Of an address.
	held map[netip.Addr]int // By address, for those with queries; nil if one address may have all places.
	peak int                // How many addresses held once had, see shrink.Map.
}

func newShares(o *Options) shares {
	if o.AddressMax >= o.WaitingMax {
		return shares{}
	}
	return shares{most: o.AddressMax, held: make(map[netip.Addr]int)}
}

// take takes a place for a query, or returns false if the address has its share already.
func (s *shares) take(address netip.Addr) bool {
	if s.held == nil {
		return true
	}
	if s.held[address] == s.most {
		return false
	}
	s.held[address]++
	return true
}

// giveBack frees the place of a query that was answered.
func (s *shares) giveBack(address netip.Addr) {
	if s.held == nil {
		return
	}
	if s.held[address]--; s.held[address] == 0 {
		s.peak = max(s.peak, len(s.held))
		delete(s.held, address)
		shrink.Map(&s.held, &s.peak, 1024)
	}
}

// inTurn orders queries so that the first ones of all addresses come before the second one of any, and so on. The
// queries of an address are ordered by their owners in the same way.
func inTurn(list []*query) []*query {
	byOwner := ranked(list, func(q *query) uint64 { return q.Owner })
	return ranked(byOwner, func(q *query) netip.Addr { return q.Address })
}

// ranked orders queries so that the first ones of all keys come before the second one of any, and so on. Its work is
// linear: there may be 100,000 queries.
func ranked[K comparable](list []*query, key func(*query) K) []*query {
	ranks := make([]int32, len(list)) // How many of the key come before each.
	var begins []int32                // By rank: how many have it, then where its next query goes.
	counts := make(map[K]int32)
	for i, q := range list {
		k := key(q)
		rank := counts[k]
		counts[k] = rank + 1
		if int(rank) == len(begins) {
			begins = append(begins, 0)
		}
		begins[rank]++
		ranks[i] = rank
	}
	at := int32(0)
	for rank, n := range begins {
		begins[rank] = at
		at += n
	}
	ordered := make([]*query, len(list))
	for i, q := range list {
		ordered[begins[ranks[i]]] = q
		begins[ranks[i]]++
	}
	return ordered
}
