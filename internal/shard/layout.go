package shard

import (
	"github.com/gobwas/ws"

	"wsd/internal/bus"
	"wsd/internal/proto"
	"wsd/internal/wire"
)

const (
	opPong = ws.OpPong

	codeNormal   = 1000 // RFC 6455 §7.4.1.
	codeNoStatus = 1005
	codeTooBig   = 1009

	headerMax = 10 // Bytes of the longest header of an unmasked frame.
)

// encodings are those of the variants that speak the client protocol.
var encodings = [bus.VariantCount]*proto.Encoding{bus.VariantJSON: &proto.JSON, bus.VariantProtobuf: &proto.Protobuf}

// layouts are the functions that lay a segment out, by variant.
var layouts = [bus.VariantCount]func(*bus.Segment) []byte{
	bus.VariantRaw: layoutRaw,
	bus.VariantJSON: func(seg *bus.Segment) []byte {
		return layoutPublications(bus.VariantJSON, seg.Name, seg.Records, seg.Bytes)
	},
	bus.VariantProtobuf: func(seg *bus.Segment) []byte {
		return layoutPublications(bus.VariantProtobuf, seg.Name, seg.Records, seg.Bytes)
	},
}

// null is what a protocol client gets for a Kafka null.
var null = []byte("null")

// valueOf returns what variant v carries of a record, nil if it carries none: raw clients get no null, and JSON clients only JSON.
func valueOf(v bus.Variant, r *bus.Record) []byte {
	switch {
	case v == bus.VariantJSON:
		return r.JSON
	case v == bus.VariantProtobuf && r.Value == nil:
		return null
	}
	return r.Value
}

// opOf is the kind of frame that variant v's messages of the client protocol have.
func opOf(e *proto.Encoding) ws.OpCode {
	if e.Binary {
		return ws.OpBinary
	}
	return ws.OpText
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

// layoutPublications makes one WebSocket message of all publications, or of messages when channel is empty, in the encoding of variant v (protocol.md A1).
func layoutPublications(v bus.Variant, channel string, records []bus.Record, valueBytes int) []byte {
	const perPublication = 64 // Bytes around the value, the channel's name not counted.
	e := encodings[v]
	buf := make([]byte, headerMax, headerMax+valueBytes+len(records)*(perPublication+len(channel)))
	for i := range records {
		value := valueOf(v, &records[i])
		if value == nil {
			continue
		}
		if len(buf) > headerMax {
			buf = append(buf, e.Separator...)
		}
		if channel == "" {
			buf = e.AppendMessage(buf, value)
		} else {
			buf = e.AppendPublication(buf, channel, value, records[i].Offset)
		}
	}
	if len(buf) == headerMax {
		return nil
	}
	// The header's length depends on the payload's: it is put right before it.
	header := wire.AppendHeader(make([]byte, 0, headerMax), opOf(e), len(buf)-headerMax)
	start := headerMax - len(header)
	copy(buf[start:], header)
	return buf[start:]
}

// publications counts the records of a segment that variant v carries.
func publications(v bus.Variant, records []bus.Record) (n uint32) {
	for i := range records {
		if valueOf(v, &records[i]) != nil {
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
	return chunk{bytes: layoutRecords(v, seg.Name, rest), publications: publications(v, rest)}
}

// layoutRecords lays out some records of a channel, for themselves.
func layoutRecords(v bus.Variant, channel string, records []bus.Record) []byte {
	if v == bus.VariantRaw {
		return appendRaw(nil, records)
	}
	return layoutPublications(v, channel, records, 0)
}
