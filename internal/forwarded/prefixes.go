package forwarded

import (
	"net/netip"
	"slices"
)

// Prefixes is a set of address prefixes. To look an address up takes time by the number of different lengths, however
// many prefixes there are. Nil is the empty set.
type Prefixes struct {
	lengths4, lengths6 []int
	set                map[netip.Prefix]struct{}
}

// NewPrefixes returns the set of the given prefixes; nil if there are none.
func NewPrefixes(list []netip.Prefix) *Prefixes {
	if len(list) == 0 {
		return nil
	}
	p := &Prefixes{set: make(map[netip.Prefix]struct{}, len(list))}
	for _, prefix := range list {
		lengths := &p.lengths6
		if prefix.Addr().Is4() {
			lengths = &p.lengths4
		}
		if !slices.Contains(*lengths, prefix.Bits()) {
			*lengths = append(*lengths, prefix.Bits())
		}
		p.set[prefix.Masked()] = struct{}{}
	}
	return p
}

// Contain reports whether an address is in one of the prefixes. An IPv4 address must be in its short form; one that is
// not valid is in none.
func (p *Prefixes) Contain(a netip.Addr) bool {
	if p == nil || !a.IsValid() {
		return false
	}
	lengths := p.lengths6
	if a.Is4() {
		lengths = p.lengths4
	}
	for _, bits := range lengths {
		prefix, _ := a.Prefix(bits) // The length is one of the family's.
		if _, ok := p.set[prefix]; ok {
			return true
		}
	}
	return false
}
