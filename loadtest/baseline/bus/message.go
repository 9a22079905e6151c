package bus

import (
	"encoding/binary"
	"errors"

	"wsd/loadtest/baseline/shm"
)

// Message is a record on its way to the shards.
type Message struct {
	Channel string // Channel of the subscribers, 1 to 255 bytes.
	Origin  string // Topic and partition, at most 255 bytes; with Offset it says which record this is.
	Offset  int64  // Offset of the record.
	Value   []byte // What clients get.
	Owner   Owner  // Sender only: is told once the message is sent; may be nil.
	Record  any    // Sender only: what Owner is told.
}

// Owner is who passed a message to a Sender.
type Owner interface {
	// Sent says that the message with this record is sent. It must not block.
	Sent(record any)
}

// Bounds of a message on the bus, in bytes.
const (
	headBytes  = 14
	NameMax    = 255
	MessageMax = shm.EntryMax
	ValueMax   = MessageMax - headBytes - 2*NameMax
)

// append appends the message: its length, the lengths of channel and origin, the offset, then the three texts.
func (m *Message) append(dst []byte) []byte {
	n := headBytes + len(m.Channel) + len(m.Origin) + len(m.Value)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	dst = append(dst, byte(len(m.Channel)), byte(len(m.Origin)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(m.Offset))
	dst = append(dst, m.Channel...)
	dst = append(dst, m.Origin...)
	return append(dst, m.Value...)
}

// Incoming is a message as a shard reads it. Its slices are valid until the call that passed it returns.
type Incoming struct {
	Channel, Origin, Value []byte
	Offset                 int64
}

var errBroken = errors.New("read the bus: a message has a wrong length")

// parse reads the message at the start of b, whose length is n; 0 means that b holds no complete message.
func parse(b []byte) (m Incoming, n int, err error) {
	if len(b) < headBytes {
		return m, 0, nil
	}
	n = int(binary.LittleEndian.Uint32(b))
	channel, origin := int(b[4]), int(b[5])
	if n < headBytes+channel+origin || n > MessageMax {
		return m, 0, errBroken
	}
	if len(b) < n {
		return m, 0, nil
	}
	rest := b[headBytes:n]
	return Incoming{Channel: rest[:channel], Origin: rest[channel : channel+origin], Value: rest[channel+origin:],
		Offset: int64(binary.LittleEndian.Uint64(b[6:]))}, n, nil
}
