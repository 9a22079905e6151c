package shard

import (
	"slices"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"

	"wsd/internal/bus"
	"wsd/internal/proto"
	"wsd/internal/wire"
)

// protocolDialect is that of Centrifugo's client protocol in one of its encodings: a segment is one WebSocket message
// with a push for each record, or several messages where one would be too large.
func protocolDialect(e *proto.Encoding, value func(*bus.Record) []byte) dialect {
	d := dialect{value: value, takesCommands: true, encoding: e, closeCode: protocolCloseCode}
	d.ping = d.frame([]byte(e.Ping))
	d.layout = func(channel string, records []bus.Record, valueBytes, messageMax int) []byte {
		return layoutPushes(&d, channel, records, valueBytes, messageMax)
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

// layoutPushes makes WebSocket messages of all publications, or of header-routed messages when channel is empty: one
// JSON object a line, or one Protobuf message after the other, each with its length first. A message has at most
// messageMax bytes, or one publication.
func layoutPushes(d *dialect, channel string, records []bus.Record, valueBytes, messageMax int) []byte {
	const perPublication = 64 // Bytes around the value, the channel's name not counted.
	e := d.encoding
	buf := make([]byte, 0, headerMax+valueBytes+len(records)*(perPublication+len(channel)))
	start := -1 // Where the message being built begins, with its header; -1: there is none.
	for i := range records {
		value := d.value(&records[i])
		if value == nil {
			continue
		}
		end := len(buf) // Of the publications before.
		if start < 0 {
			start = 0
			buf = append(buf, headerUsual...)
		} else {
			buf = append(buf, e.Separator...)
		}
		begin := len(buf)
		switch {
		case channel == "":
			buf = e.AppendMessage(buf, value)
		case records[i].Info != nil:
			buf = appendPublished(buf, e, channel, value, &records[i])
		default:
			buf = e.AppendPublication(buf, channel, value, records[i].Offset)
		}
		if end > start && len(buf)-start-len(headerUsual) > messageMax {
			start, buf = splitMessage(buf, start, end, begin, d.op())
		}
	}
	if start < 0 {
		return nil
	}
	return closeMessage(buf, start, d.op())
}

// appendPublished appends a publication with who published it, and its tags.
func appendPublished(buf []byte, e *proto.Encoding, channel string, value []byte, r *bus.Record) []byte {
	pub := &protocol.Publication{}
	setPublication(pub, value, r)
	out, err := e.AppendReply(buf, &protocol.Reply{Push: &protocol.Push{Channel: channel, Pub: pub}})
	if err != nil {
		return e.AppendPublication(buf, channel, value, r.Offset) // BUG: the value was checked.
	}
	return out
}

// setPublication makes pub, which is empty, what a record is with the value.
func setPublication(pub *protocol.Publication, value []byte, r *bus.Record) {
	pub.Data, pub.Offset = value, r.Offset
	if r.Info == nil {
		return
	}
	if r.Info.Client != "" {
		pub.Info = &protocol.ClientInfo{
			Client: r.Info.Client, User: r.Info.User, ConnInfo: r.Info.ConnInfo, ChanInfo: r.Info.ChanInfo,
		}
	}
	if len(r.Info.Tags) > 0 {
		pub.Tags = make(map[string]string, len(r.Info.Tags))
		for _, tag := range r.Info.Tags {
			pub.Tags[tag[0]] = tag[1]
		}
	}
}

// headerUsual is room for the header of a message from 126 to 65,535 bytes.
var headerUsual = make([]byte, 4)

// splitMessage closes the message from start to end and makes another one of what follows from begin on. It returns
// where that one starts.
func splitMessage(buf []byte, start, end, begin int, op ws.OpCode) (int, []byte) {
	last := append([]byte(nil), buf[begin:]...)
	buf = closeMessage(buf[:end], start, op)
	start = len(buf)
	return start, append(append(buf, headerUsual...), last...)
}

// closeMessage writes the header of the message at start, which ends the buffer. Mostly the header has the usual
// length.
func closeMessage(buf []byte, start int, op ws.OpCode) []byte {
	payload := start + len(headerUsual)
	var room [headerMax]byte
	header := wire.AppendHeader(room[:0], op, len(buf)-payload)
	if len(header) != len(headerUsual) {
		buf = slices.Replace(buf, start, payload, header...)
		return buf
	}
	copy(buf[start:], header)
	return buf
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
