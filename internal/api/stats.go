package api

import (
	"slices"
	"sync/atomic"

	"wsd/internal/apikey"
	"wsd/internal/proto"
)

// methodUnknown is what metrics call a method that does not exist.
const methodUnknown = "unknown"

// codes are the codes of errors that metrics tell apart. Others count as the first one.
var codes = []uint32{
	uint32(proto.ErrInternal.Code), uint32(proto.ErrUnknownChannel.Code), uint32(proto.ErrPermissionDenied.Code),
	uint32(proto.ErrMethodNotFound.Code), uint32(proto.ErrLimitExceeded.Code), uint32(proto.ErrBadRequest.Code),
	uint32(proto.ErrNotAvailable.Code), uint32(proto.ErrTooManyRequests.Code),
	uint32(proto.ErrUnrecoverablePosition.Code),
}

// Stats counts commands. Any goroutine may read.
type Stats struct {
	Unauthorized atomic.Uint64 // Requests without a valid key.

	commands map[string]*atomic.Uint64 // By method.
	errors   []atomic.Uint64           // As codes.
}

// NewStats returns counters that are all 0.
func NewStats() *Stats {
	s := &Stats{commands: make(map[string]*atomic.Uint64), errors: make([]atomic.Uint64, len(codes))}
	for _, name := range append(apikey.Methods(), methodUnknown) {
		if name != apikey.Batch { // Each of its commands counts.
			s.commands[name] = new(atomic.Uint64)
		}
	}
	return s
}

// count counts a command; err may be nil.
func (s *Stats) count(name string, err *Error) {
	s.commands[name].Add(1)
	if err != nil {
		s.errors[max(0, slices.Index(codes, err.Code))].Add(1)
	}
}

// EachMethod calls f with the number of commands by method.
func (s *Stats) EachMethod(f func(method string, n uint64)) {
	for name, n := range s.commands {
		f(name, n.Load())
	}
}

// EachError calls f with the number of commands that failed, by the code of their error.
func (s *Stats) EachError(f func(code uint32, n uint64)) {
	for i := range s.errors {
		f(codes[i], s.errors[i].Load())
	}
}

// Stats returns the counters.
func (h *Handler) Stats() *Stats { return h.stats }
