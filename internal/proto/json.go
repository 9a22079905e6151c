package proto

import "github.com/centrifugal/protocol"

// PingFrameJSON is the payload of a ping, and of the client's pong: an empty
// reply, or command.
const PingFrameJSON = "{}"

// DecodeJSON calls fn for each command of a frame, in order.
func DecodeJSON(frame []byte, fn func(*protocol.Command) error) error { panic("BUG: declared only") }

// AppendReply appends r as JSON, without a newline.
func AppendReply(dst []byte, r *protocol.Reply) ([]byte, error) { panic("BUG: declared only") }

// AppendPublication appends the push of one publication as JSON.
func AppendPublication(dst []byte, channel string, data []byte, offset uint64) []byte {
	panic("BUG: declared only")
}

// AppendUnsubscribePush appends the push that ends a subscription as JSON.
func AppendUnsubscribePush(dst []byte, channel string, code uint32, reason string) []byte {
	panic("BUG: declared only")
}

// ValidJSON reports whether value is exactly one JSON value.
func ValidJSON(value []byte) bool { panic("BUG: declared only") }

// CompactJSON checks value and removes whitespace outside strings.
func CompactJSON(dst, value []byte) (out []byte, ok bool) { panic("BUG: declared only") }
