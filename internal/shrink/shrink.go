package shrink

import "maps"

const (
	// keepMost is how many elements a table or slice may once have had without being made anew: some tens of kilobytes.
	keepMost = 1024
	// fewPart is when a map has few entries: less than one in fewPart of what it had.
	fewPart = 4
	// copyMost bounds the entries that are copied at a time, which takes about a millisecond.
	copyMost = 8192
)

// Map makes a map anew if it has few of the entries that it once had, and these were more than keep. Peak is where the
// caller keeps how many they were; it is zero at first. Map costs a comparison otherwise, so it may be called often. A
// map that still has more than 8,192 entries waits until it has fewer: it is for maps whose entries come and go
// together. Table is for others.
func Map[M ~map[K]V, K comparable, V any](m *M, peak *int, keep int) {
	n := len(*m)
	*peak = max(*peak, n)
	if *peak > keep && n < *peak/fewPart && n <= copyMost {
		*m, *peak = again(*m), n
	}
}

func again[M ~map[K]V, K comparable, V any](m M) M {
	fresh := make(M, len(m))
	maps.Copy(fresh, m)
	return fresh
}

// Slice returns a slice to append to, with the memory of s unless that is much more than the used elements need.
func Slice[S ~[]E, E any](s S, used int) S {
	if cap(s) > keepMost && used < cap(s)/fewPart {
		return nil
	}
	return s[:0]
}
