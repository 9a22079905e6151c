package source

import (
	"errors"
	"slices"
	"unicode/utf8"

	"wsd/internal/bus"
	"wsd/internal/proto"
)

var jsonNull = []byte("null")

// invalid counts a value that JSON clients do not get, and logs the first one of each topic and reason.
func (r *router) invalid(p *partition, reason error, offset int64, size int) {
	t := p.topic
	t.stats.InvalidJSON.Add(1)
	if slices.Contains(t.invalidNoted, reason) {
		return
	}
	t.invalidNoted = append(t.invalidNoted, reason)
	switch {
	case errors.Is(reason, proto.ErrJSONDepth):
		r.s.noteRecord(eventJSONDepth, "", p, offset, []any{"limit", r.s.o.JSONDepthMax}, "bytes", size)
	case errors.Is(reason, proto.ErrJSONNumber):
		r.s.noteRecord(eventJSONNumber, "", p, offset, []any{"digits_max", proto.NumberBytesMax}, "bytes", size)
	default:
		r.s.noteRecord(eventNotJSON, "", p, offset, nil, "bytes", size)
	}
}

// jsonScratchMax is how many bytes the scratch buffer for compacted values may keep.
const jsonScratchMax = 1 << 20

// value checks a record's value once for all its receivers. The slices in the result are valid until the next call.
func (r *router) value(p *partition, value []byte, offset int64) bus.Record {
	if value == nil {
		return bus.Record{Offset: uint64(offset) + 1, JSON: jsonNull, Text: true}
	}
	out, err := proto.CompactJSON(r.json[:0], value, r.s.o.JSONDepthMax)
	if err != nil {
		r.invalid(p, err, offset, len(value))
		return bus.Record{Offset: uint64(offset) + 1, Value: value, Text: utf8.Valid(value)}
	}
	// The result is in the scratch buffer, or it is value itself if there was nothing to remove.
	if len(out) > 0 && &out[0] != &value[0] {
		if r.json = out; cap(out) > jsonScratchMax {
			r.json = nil
		}
	}
	return bus.Record{Offset: uint64(offset) + 1, Value: value, JSON: out, Text: true} // JSON is UTF-8 throughout.
}
