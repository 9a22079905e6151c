package api

import (
	"slices"
	"sync/atomic"
)

// methodUnknown is what metrics call a method that does not exist.
const methodUnknown = "unknown"

// codes are the codes that metrics tell apart; 0 is success.
var codes = []uint32{0, 100, 102, 103, 104, 106, 107, 108, 111, 112}

// Stats counts commands. Any goroutine may read.
type Stats struct {
	Unauthorized atomic.Uint64 // Requests without a valid key.

	commands map[string][]atomic.Uint64 // By method, then as codes.
}

func (s *Stats) init() {
	s.commands = make(map[string][]atomic.Uint64)
	for _, name := range append(Methods(), methodUnknown) {
		if name != batchMethod {
			s.commands[name] = make([]atomic.Uint64, len(codes))
		}
	}
}

func (s *Stats) count(name string, code uint32) {
	i := slices.Index(codes, code)
	if i < 0 {
		i = slices.Index(codes, 100)
	}
	s.commands[name][i].Add(1)
}

// Each calls f with the number of commands by method and code of the error; code 0 is success.
func (s *Stats) Each(f func(method string, code uint32, n uint64)) {
	for name, counts := range s.commands {
		for i := range counts {
			f(name, codes[i], counts[i].Load())
		}
	}
}

// Stats returns the counters.
func (h *Handler) Stats() *Stats { return &h.stats }
