package proto

import "github.com/centrifugal/protocol"

// Encoding is one of the two forms of the client protocol. Its functions are those of
// the same name in this package.
type Encoding struct {
	Name      string // As the subprotocol has it, centrifuge-json or centrifuge-protobuf.
	Binary    bool   // Frames are binary rather than text.
	Separator string // What stands between two messages of a frame.
	Ping      string // Payload of a ping, and of a pong.

	Decode                func(frame []byte, fn func(*protocol.Command) error) error
	AppendReply           func(dst []byte, r *protocol.Reply) ([]byte, error)
	AppendPublication     func(dst []byte, channel string, data []byte, offset uint64) []byte
	AppendMessage         func(dst, data []byte) []byte
	AppendUnsubscribePush func(dst []byte, channel string, code uint32, reason string) []byte
}

// The encodings (protocol.md A1).
var (
	JSON = Encoding{
		Name: "centrifuge-json", Separator: "\n", Ping: PingFrameJSON, Decode: DecodeJSON, AppendReply: AppendReply,
		AppendPublication: AppendPublication, AppendMessage: AppendMessage, AppendUnsubscribePush: AppendUnsubscribePush,
	}
	Protobuf = Encoding{
		Name: "centrifuge-protobuf", Binary: true, Ping: PingFrameProtobuf, Decode: DecodeProtobuf, AppendReply: AppendReplyProtobuf,
		AppendPublication: AppendPublicationProtobuf, AppendMessage: AppendMessageProtobuf, AppendUnsubscribePush: AppendUnsubscribePushProtobuf,
	}
)
