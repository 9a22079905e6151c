package wire

import "strconv"

// Event says what Reader.Next has found.
type Event uint8

// The events.
const (
	EventNone     Event = iota // No complete frame: more bytes are needed.
	EventFragment              // A fragment was taken; its message goes on.
	EventText                  // A complete text message, valid UTF-8.
	EventBinary                // A complete binary message.
	EventPing                  // To be answered by a pong with the same payload.
	EventPong
	EventClose // See CloseCode for its payload.

	EventDeflatedText   // A complete compressed text message, see Inflater.
	EventDeflatedBinary // A complete compressed binary message, see Inflater.
)

// Role is the end of the connection that reads.
type Role uint8

// The roles. A server expects masked frames, a client unmasked ones (RFC 6455
// §5.1).
const (
	RoleServer Role = iota
	RoleClient
)

// CloseError says why a connection must be failed, and with which status code
// (RFC 6455 §7.4.1): 1002 for a broken protocol, 1007 for text that is not
// UTF-8 or compressed data that is malformed, 1009 for a message that is too big.
type CloseError struct {
	Code   uint16
	Reason string // Fits into a close frame.
}

// Error implements error.
func (e *CloseError) Error() string {
	return "fail websocket connection with " + strconv.Itoa(int(e.Code)) + ": " + e.Reason
}
