package wire

import "strconv"

// Event is what Reader.Next has found.
type Event uint8

// The events.
const (
	EventNone     Event = iota // No complete frame; more bytes are needed.
	EventFragment              // A fragment of a message that is not complete yet.
	EventText                  // A complete text message, valid UTF-8.
	EventBinary                // A complete binary message.
	EventPing                  // A ping. The reply is a pong with the same payload.
	EventPong                  // A pong.
	EventClose                 // A close frame. CloseCode reads its payload.

	EventDeflatedText   // A complete compressed text message. Inflater decompresses it.
	EventDeflatedBinary // A complete compressed binary message. Inflater decompresses it.
)

// String returns the event's name for logs.
func (e Event) String() string {
	return [...]string{"none", "fragment", "text", "binary", "ping", "pong", "close", "deflated text",
		"deflated binary"}[e]
}

// Role is the side of a connection that reads.
type Role uint8

// The roles. A server expects masked frames, a client unmasked ones (RFC 6455 §5.1).
const (
	RoleServer Role = iota
	RoleClient
)

// CloseError says why a connection must be failed, and with which status code (RFC 6455 §7.4.1): 1002 for a violation
// of the protocol, 1007 for text that is not UTF-8 or malformed compressed data, 1009 for a message that is too large.
type CloseError struct {
	Code   uint16 // Status code of the close frame.
	Reason string // Reason, short enough for a close frame.
}

// Error implements error.
func (e *CloseError) Error() string {
	return "fail websocket connection with " + strconv.Itoa(int(e.Code)) + ": " + e.Reason
}
