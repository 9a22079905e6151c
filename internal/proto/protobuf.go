package proto

import (
	"encoding/binary"
	"fmt"

	"github.com/centrifugal/protocol"
	"github.com/centrifugal/protocol/cfprotobuf"
)

// PingFrameProtobuf is the payload of a server's ping, which is an empty reply, and of a client's pong, which is an
// empty command. Both are a length of 0.
const PingFrameProtobuf = "\x00"

// NextProtobuf is NextJSON for a frame of Protobuf messages, each with its length before it as a varint.
func NextProtobuf(frame []byte) (cmd *protocol.Command, rest []byte, err error) {
	if len(frame) == 0 {
		return nil, nil, ErrFrameEmpty
	}
	message, rest, ok := cutMessage(frame)
	if !ok {
		return nil, nil, fmt.Errorf("%w: the length of a message exceeds the frame", ErrCommandInvalid)
	}
	cmd, err = decodeProtobufCommand(message)
	return cmd, rest, err
}

// CountProtobuf returns how many commands a frame has, up to where it is malformed.
func CountProtobuf(frame []byte) (n int) {
	for ok := true; ok && len(frame) > 0; n++ {
		_, frame, ok = cutMessage(frame)
	}
	return n
}

// cutMessage returns the first message of a frame and what follows it.
func cutMessage(frame []byte) (message, rest []byte, ok bool) {
	length, size := binary.Uvarint(frame)
	if size <= 0 || length > uint64(len(frame)-size) { //nolint:gosec // size is at most the frame's length.
		return nil, nil, false
	}
	end := size + int(length) //nolint:gosec // It fits the frame.
	return frame[size:end], frame[end:], true
}

// decodeProtobufCommand decodes one command. It guards against a panic like decodeCommand.
func decodeProtobufCommand(message []byte) (cmd *protocol.Command, err error) {
	defer func() {
		if p := recover(); p != nil {
			cmd, err = nil, fmt.Errorf("%w: decoder panicked: %v", ErrCommandInvalid, p)
		}
	}()
	if len(message) >= screenedFrom && !screenProtobuf(message) {
		return nil, ErrCommandParts
	}
	cmd = new(protocol.Command)
	if err := cmd.UnmarshalCF(message); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommandInvalid, err)
	}
	if cmd.Id == 0 && hasRequest(cmd) {
		return nil, ErrCommandID
	}
	return cmd, nil
}

// AppendReplyProtobuf appends r, with its length before it.
func AppendReplyProtobuf(dst []byte, r *protocol.Reply) ([]byte, error) {
	size := r.SizeCF()
	dst = binary.AppendUvarint(dst, uint64(size)) //nolint:gosec // A size is no less than 0.
	start := len(dst)
	dst = append(dst, make([]byte, size)...)
	if _, err := r.MarshalToSizedBufferCF(dst[start:]); err != nil {
		return dst[:start], fmt.Errorf("encode reply: %w", err)
	}
	return dst, nil
}

// Tags of fields of Reply, Push, Publication, Message and Unsubscribe (client.proto): the number of the field, and in
// the lowest three bits the wire type, which is 0 for a varint and 2 for bytes with their length
// (https://protobuf.dev/programming-guides/encoding).
const (
	tagReplyPush         = 4<<3 | 2
	tagPushChannel       = 2<<3 | 2
	tagPushPub           = 4<<3 | 2
	tagPushUnsubscribe   = 7<<3 | 2
	tagPushMessage       = 8<<3 | 2
	tagPublicationData   = 4<<3 | 2
	tagPublicationOffset = 6 << 3
	tagMessageData       = 1<<3 | 2
	tagUnsubscribeCode   = 2 << 3
	tagUnsubscribeReason = 3<<3 | 2

	tagBytes = 1 // Length of each tag above, which is below 128.
)

// AppendPublicationProtobuf is AppendPublication for Protobuf, with a length before the push. data may be any bytes.
func AppendPublicationProtobuf(dst []byte, channel string, data []byte, offset uint64) []byte {
	pub := delimited(len(data))
	if offset != 0 {
		pub += tagBytes + cfprotobuf.SizeOfVarint(offset)
	}
	dst = appendPushProtobuf(dst, channel, tagPushPub, pub)
	dst = append(appendLength(append(dst, tagPublicationData), len(data)), data...)
	if offset != 0 {
		dst = binary.AppendUvarint(append(dst, tagPublicationOffset), offset)
	}
	return dst
}

// AppendUnsubscribePushProtobuf is AppendUnsubscribePush for Protobuf, with a length before the push.
func AppendUnsubscribePushProtobuf(dst []byte, channel string, code uint32, reason string) []byte {
	size := tagBytes + cfprotobuf.SizeOfVarint(uint64(code)) + delimited(len(reason))
	dst = appendPushProtobuf(dst, channel, tagPushUnsubscribe, size)
	dst = binary.AppendUvarint(append(dst, tagUnsubscribeCode), uint64(code))
	return append(appendLength(append(dst, tagUnsubscribeReason), len(reason)), reason...)
}

// AppendMessageProtobuf is AppendMessage for Protobuf, with a length before the push. data may be any bytes.
func AppendMessageProtobuf(dst, data []byte) []byte {
	message := delimited(len(data))
	push := delimited(message)
	dst = appendLength(dst, delimited(push))
	dst = appendLength(append(dst, tagReplyPush), push)
	dst = appendLength(append(dst, tagPushMessage), message)
	return append(appendLength(append(dst, tagMessageData), len(data)), data...)
}

// appendPushProtobuf appends a push up to the content of its field with the given tag. content is the length of that
// content in bytes, which the caller appends.
func appendPushProtobuf(dst []byte, channel string, tag byte, content int) []byte {
	push := delimited(len(channel)) + delimited(content)
	dst = appendLength(dst, delimited(push))
	dst = appendLength(append(dst, tagReplyPush), push)
	dst = append(appendLength(append(dst, tagPushChannel), len(channel)), channel...)
	return appendLength(append(dst, tag), content)
}

// delimited returns the length of a field with n bytes of content, including its tag and its length.
func delimited(n int) int { return tagBytes + cfprotobuf.SizeOfMessage(n) }

func appendLength(dst []byte, n int) []byte {
	return binary.AppendUvarint(dst, uint64(n)) //nolint:gosec // A length is no less than 0.
}
