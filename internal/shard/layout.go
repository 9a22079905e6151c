package shard

import (
	"github.com/gobwas/ws"

	"wsd/internal/bus"
	"wsd/internal/proto"
	"wsd/internal/wire"
)

const (
	opPong = ws.OpPong
	opText = ws.OpText

	codeNormal   = 1000 // RFC 6455 §7.4.1.
	codeNoStatus = 1005

	headerMax = 10 // Bytes of the longest header of an unmasked frame.
)

// layout returns the function that lays a segment out in variant v.
func layout(v bus.Variant) func(*bus.Segment) []byte {
	if v == bus.VariantRaw {
		return layoutRaw
	}
	return layoutJSON
}

// layoutRaw makes one WebSocket message of each value: text when it is UTF-8, else binary. A null has no value to send.
func layoutRaw(seg *bus.Segment) []byte {
	return appendRaw(make([]byte, 0, seg.Bytes+len(seg.Records)*headerMax), seg.Records)
}

func appendRaw(dst []byte, records []bus.Record) []byte {
	for i := range records {
		r := &records[i]
		if r.Value == nil {
			continue
		}
		op := ws.OpBinary
		if r.Text {
			op = ws.OpText
		}
		dst = wire.AppendFrame(dst, op, r.Value)
	}
	return dst
}

// layoutJSON makes one WebSocket message of all publications, separated by newlines (protocol.md A1). A value that is not JSON
// cannot be sent to these clients.
func layoutJSON(seg *bus.Segment) []byte { return frameJSON(seg.Name, seg.Records, seg.Bytes) }

func frameJSON(channel string, records []bus.Record, valueBytes int) []byte {
	const perPublication = 64 // Bytes around the value, the channel's name not counted.
	buf := make([]byte, headerMax, headerMax+valueBytes+len(records)*(perPublication+len(channel)))
	for i := range records {
		r := &records[i]
		if r.JSON == nil {
			continue
		}
		if len(buf) > headerMax {
			buf = append(buf, '\n')
		}
		buf = proto.AppendPublication(buf, channel, r.JSON, r.Offset)
	}
	if len(buf) == headerMax {
		return nil
	}
	// The header's length depends on the payload's: it is put right before it.
	header := wire.AppendHeader(make([]byte, 0, headerMax), ws.OpText, len(buf)-headerMax)
	start := headerMax - len(header)
	copy(buf[start:], header)
	return buf[start:]
}

// publications counts the records of a segment that variant v carries.
func publications(v bus.Variant, records []bus.Record) (n uint32) {
	for i := range records {
		if (v == bus.VariantRaw && records[i].Value != nil) || (v == bus.VariantJSON && records[i].JSON != nil) {
			n++
		}
	}
	return n
}

// layoutAfter lays out the records with an offset above start, for one subscriber that joined in the middle of a segment.
func layoutAfter(v bus.Variant, seg *bus.Segment, start uint64) chunk {
	first := 0
	for first < len(seg.Records) && seg.Records[first].Offset <= start {
		first++
	}
	rest := seg.Records[first:]
	if v == bus.VariantRaw {
		return chunk{bytes: appendRaw(nil, rest), publications: publications(v, rest)}
	}
	return chunk{bytes: frameJSON(seg.Name, rest, 0), publications: publications(v, rest)}
}
