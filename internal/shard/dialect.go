package shard

import (
	"github.com/gobwas/ws"

	"wsd/internal/bus"
	"wsd/internal/proto"
	"wsd/internal/wire"
)

// dialect is how the shard talks to one kind of client. There is one for each variant of a segment's layout. Everything
// in which clients differ stands here, so that the rest of the shard asks no client what it speaks.
type dialect struct {
	// layout lays records of a channel out, whose values have valueBytes in all (a hint), in messages of at most
	// messageMax bytes or one record. It returns nothing where the records have nothing for the dialect.
	layout func(channel string, records []bus.Record, valueBytes, messageMax int) []byte
	// value returns what the dialect carries of a record, nil if nothing.
	value func(*bus.Record) []byte
	// separate says that each record is a message of its own, compressed by itself.
	separate bool
	// nullRemoves says that a null has no layout, but makes the record of its key that still waits obsolete.
	nullRemoves bool

	// takesCommands says that the client sends commands; otherwise what it says is ignored.
	takesCommands bool
	// encoding is that of commands, their replies and pushes; nil: the client gets values alone, so that a subscription
	// can only end with the connection.
	encoding *proto.Encoding
	// ping is the frame that asks the client for a pong in-band; nil: it is a WebSocket ping.
	ping []byte
	// closeCode is the code and text of the close frame for a reason; code 0: there is none.
	closeCode func(Reason) (code uint16, text string)
}

// dialects are the dialects by variant.
var dialects = [bus.VariantCount]dialect{
	bus.VariantRaw:      rawDialect(),
	bus.VariantJSON:     protocolDialect(&proto.JSON, jsonValue),
	bus.VariantProtobuf: protocolDialect(&proto.Protobuf, protobufValue),
}

// speaks returns the dialect of c. Before the upgrade it is raw.
func (c *conn) speaks() *dialect { return &dialects[c.variant] }

var pingNative = wire.AppendFrame(nil, opPing, nil)

const (
	opPing = ws.OpPing
	opPong = ws.OpPong

	codeNormal   = 1000 // RFC 6455 §7.4.1.
	codeNoStatus = 1005
	codeTooBig   = 1009

	headerMax = 10 // Bytes of the longest header of an unmasked frame.
)

// publications counts the records that the dialect carries.
func (d *dialect) publications(records []bus.Record) (n uint32) {
	for i := range records {
		if d.value(&records[i]) != nil {
			n++
		}
	}
	return n
}

// layouts lays segments out for all shards alike: what is built once serves the whole process.
type layouts struct {
	messageMax int // Limits.MessageOutMax.
	whole      [bus.VariantCount]func(*bus.Segment) []byte
}

func newLayouts(messageMax int) (l layouts) {
	l.messageMax = messageMax
	for v := range dialects {
		d := &dialects[v]
		l.whole[v] = func(seg *bus.Segment) []byte { return d.layout(seg.Name, seg.Records, seg.Bytes, messageMax) }
	}
	return l
}

// of returns the layout of a segment, built if it is not there yet.
func (l *layouts) of(v bus.Variant, seg *bus.Segment) []byte { return seg.Layout(v, l.whole[v]) }

// records lays some records of a channel out by themselves.
func (l *layouts) records(v bus.Variant, channel string, records []bus.Record) chunk {
	d, bytes := &dialects[v], 0
	for i := range records {
		bytes += len(d.value(&records[i]))
	}
	return chunk{bytes: d.layout(channel, records, bytes, l.messageMax), publications: d.publications(records)}
}

// after lays out the records with an offset above start, for a subscriber that joined in the middle of a segment.
func (l *layouts) after(v bus.Variant, seg *bus.Segment, start uint64) chunk {
	first := 0
	for first < len(seg.Records) && seg.Records[first].Offset <= start {
		first++
	}
	return l.records(v, seg.Name, seg.Records[first:])
}

// compressible returns the bytes of those of a segment's messages that have at least least bytes.
func (d *dialect) compressible(seg *bus.Segment, plain []byte, least int) (n int) {
	if !d.separate {
		if len(plain) >= least {
			n = len(plain)
		}
		return n
	}
	for i := range seg.Records {
		if size := len(seg.Records[i].Value); size >= least {
			n += size
		}
	}
	return n
}

// frame makes a message of the client protocol out of a payload.
func (d *dialect) frame(payload []byte) []byte {
	return wire.AppendFrame(make([]byte, 0, headerMax+len(payload)), d.op(), payload)
}

// op is the kind of frame that messages of the client protocol have.
func (d *dialect) op() ws.OpCode {
	if d.encoding.Binary {
		return ws.OpBinary
	}
	return ws.OpText
}
