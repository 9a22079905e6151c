package recovery

import (
	"net/netip"
	"slices"

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

// ranked orders queries so that the first ones of all keys come before the second one of any, and so on.
func ranked[K comparable](list []*query, key func(*query) K) []*query {
	type entry struct {
		q    *query
		rank int
	}
	entries := make([]entry, len(list))
	counts := make(map[K]int)
	for i, q := range list {
		k := key(q)
		entries[i] = entry{q, counts[k]}
		counts[k]++
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return a.rank - b.rank })
	ordered := make([]*query, len(list))
	for i := range entries {
		ordered[i] = entries[i].q
	}
	return ordered
}
