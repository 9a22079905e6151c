package shard

import (
	"wsd/internal/bus"
	"wsd/internal/proto"
	"wsd/internal/wire"
)

// protocolDialect is that of Centrifugo's client protocol in one of its encodings: a segment is one WebSocket message
// with a push for each record.
func protocolDialect(e *proto.Encoding, value func(*bus.Record) []byte) dialect {
	d := dialect{value: value, takesCommands: true, encoding: e, closeCode: protocolCloseCode}
	d.ping = d.frame([]byte(e.Ping))
	d.layout = func(seg *bus.Segment) []byte {
		return layoutPushes(&d, seg.Name, seg.Records, seg.Bytes)
	}
	d.layoutRecords = func(channel string, records []bus.Record) []byte {
		return layoutPushes(&d, channel, records, 0)
	}
	return d
}

// jsonValue is what JSON clients get of a record: a value that is JSON.
func jsonValue(r *bus.Record) []byte { return r.JSON }

// null is what a client of the protocol gets for a Kafka null.
var null = []byte("null")

// protobufValue is what Protobuf clients get of a record: any value.
func protobufValue(r *bus.Record) []byte {
	if r.Value == nil {
		return null
	}
	return r.Value
}

// protocolCloseCode is the disconnect of the client protocol for a reason; some reasons have the same code as for raw
// clients.
func protocolCloseCode(r Reason) (code uint16, text string) {
	k := &closings[r]
	if k.protocol.Code != 0 {
		return k.protocol.Code, k.protocol.Reason
	}
	return k.raw, k.rawText
}

// layoutPushes makes one WebSocket message of all publications, or of messages when channel is empty: one JSON object a
// line, or one Protobuf message after the other, each with its length first.
func layoutPushes(d *dialect, channel string, records []bus.Record, valueBytes int) []byte {
	const perPublication = 64 // Bytes around the value, the channel's name not counted.
	e := d.encoding
	buf := make([]byte, headerMax, headerMax+valueBytes+len(records)*(perPublication+len(channel)))
	for i := range records {
		value := d.value(&records[i])
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
	header := wire.AppendHeader(make([]byte, 0, headerMax), d.op(), len(buf)-headerMax)
	start := headerMax - len(header)
	copy(buf[start:], header)
	return buf[start:]
}

// unsubscribePushes appends a push for each channel that ends the client's subscription to it.
func (d *dialect) unsubscribePushes(dst []byte, end proto.Unsubscribe, channels ...string) []byte {
	for i, name := range channels {
		if i > 0 {
			dst = append(dst, d.encoding.Separator...)
		}
		dst = d.encoding.AppendUnsubscribePush(dst, name, end.Code, end.Reason)
	}
	return dst
}
