package source

import (
	"unicode/utf8"

	"wsd/internal/bus"
	"wsd/internal/proto"
)

var jsonNull = []byte("null")

// jsonScratchMax is how many bytes the scratch buffer for compacted values may keep.
const jsonScratchMax = 1 << 20

// value checks a record's value once for all its receivers. The slices in the result are valid until the next call.
func (r *router) value(p *partition, value []byte, offset int64) bus.Record {
	if value == nil {
		return bus.Record{Offset: uint64(offset) + 1, JSON: jsonNull, Text: true}
	}
	out, ok := proto.CompactJSON(r.json[:0], value)
	if !ok {
		p.topic.stats.InvalidJSON.Add(1)
		if !p.topic.invalidNoted {
			p.topic.invalidNoted = true
			r.s.log.Warn("a value is not JSON, so JSON clients do not get it; further ones are only counted",
				"topic", p.topic.name, "partition", p.id, "offset", offset, "bytes", len(value))
		}
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
