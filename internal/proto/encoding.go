package proto

import "github.com/centrifugal/protocol"

// Encoding is one of the two encodings of the client protocol. Its functions are those of the same name in this
// package.
type Encoding struct {
	Name      string // Subprotocol: centrifuge-json or centrifuge-protobuf.
	Binary    bool   // Whether frames are binary; otherwise they are text.
	Separator string // Bytes between two messages of a frame.
	Ping      string // Payload of a ping and of a pong.

	Next                  func(frame []byte) (cmd *protocol.Command, rest []byte, err error)
	Count                 func(frame []byte) int
	AppendReply           func(dst []byte, r *protocol.Reply) ([]byte, error)
	AppendPublication     func(dst []byte, channel string, data []byte, offset uint64) []byte
	AppendMessage         func(dst, data []byte) []byte
	AppendUnsubscribePush func(dst []byte, channel string, code uint32, reason string) []byte
}

// The encodings. A frame of JSON has one message per line; in Protobuf each message has its length before it.
var (
	JSON = Encoding{
		Name: "centrifuge-json", Separator: "\n", Ping: PingFrameJSON, Next: NextJSON, Count: CountJSON,
		AppendReply:       AppendReply,
		AppendPublication: AppendPublication, AppendMessage: AppendMessage,
		AppendUnsubscribePush: AppendUnsubscribePush,
	}
	Protobuf = Encoding{
		Name: "centrifuge-protobuf", Binary: true, Ping: PingFrameProtobuf, Next: NextProtobuf,
		Count:             CountProtobuf,
		AppendReply:       AppendReplyProtobuf,
		AppendPublication: AppendPublicationProtobuf, AppendMessage: AppendMessageProtobuf,
		AppendUnsubscribePush: AppendUnsubscribePushProtobuf,
	}
)
