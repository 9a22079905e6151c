package shard

import "math/bits"

// slots says which indexes of a list are in use, a bit each. The lowest free one is taken first, so that the end of the
// list becomes free after a peak.
type slots struct {
	used []uint64
	low  int // No word before this one has a free slot.
}

// next returns the lowest free slot.
func (s *slots) next() uint32 {
	for ; s.low < len(s.used); s.low++ {
		if word := s.used[s.low]; word != ^uint64(0) {
			return uint32(s.low*64 + bits.TrailingZeros64(^word))
		}
	}
	return uint32(s.low * 64)
}

// take takes the slot that next returns.
func (s *slots) take() uint32 {
	slot := s.next()
	if s.low == len(s.used) {
		s.used = append(s.used, 0)
	}
	s.used[slot/64] |= 1 << (slot % 64)
	return slot
}

// free frees a slot, and reports whether the 64 slots beside it are free as well.
func (s *slots) free(slot uint32) (all bool) {
	word := slot / 64
	s.used[word] &^= 1 << (slot % 64)
	s.low = min(s.low, int(word))
	return s.used[word] == 0
}

// trim forgets the free slots at the end, and returns the end.
func (s *slots) trim() uint32 {
	n := len(s.used)
	for n > 0 && s.used[n-1] == 0 {
		n--
	}
	if s.used = s.used[:n]; n == 0 {
		s.low = 0
		return 0
	}
	s.low = min(s.low, n)
	return uint32(n*64 - bits.LeadingZeros64(s.used[n-1]))
}
