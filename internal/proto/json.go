package proto

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/centrifugal/protocol"
	"github.com/centrifugal/protocol/cfjson"

	"wsd/internal/routing"
)

// PingFrameJSON is the payload of a server's ping, which is an empty reply, and of a client's pong, which is an empty
// command.
const PingFrameJSON = "{}"

// Errors of NextJSON and NextProtobuf. A client that causes one has violated the protocol and is closed with
// DisconnectBadRequest.
var (
	ErrFrameEmpty     = errors.New("decode commands: empty frame")
	ErrCommandInvalid = errors.New("decode command: not a command of the client protocol")
	ErrCommandID      = errors.New("decode command: a request needs an id above 0")
)

// NextJSON decodes the first command of a frame, or of what is left of one, and returns what follows it. The commands
// are JSON objects separated by single newlines, with an optional newline at the end. Unknown fields are ignored, as
// clients may be newer than the server. Errors wrap one of the errors above, or ErrCommandParts.
//
// A command with neither a request nor an id is a pong. Every other command except send has an id above 0. It may still
// have no request, if it asks for something unknown, or several. The caller owns the command, which does not alias
// frame.
//
// A channel or method with a lone surrogate, which the decoder replaces by U+FFFD, is passed on as invalid UTF-8; see
// ValidNames.
func NextJSON(frame []byte) (cmd *protocol.Command, rest []byte, err error) {
	if len(frame) == 0 {
		return nil, nil, ErrFrameEmpty
	}
	line, rest, _ := bytes.Cut(frame, newline)
	cmd, err = decodeCommand(line)
	return cmd, rest, err
}

// CountJSON returns how many commands a frame has at most.
func CountJSON(frame []byte) int {
	return bytes.Count(bytes.TrimSuffix(frame, newline), newline) + 1
}

var newline = []byte{'\n'}

// decodeCommand decodes one command. The generated decoder should not panic, and fuzzing has not made it panic. If it
// does all the same, only the client that sent the command is affected.
func decodeCommand(line []byte) (cmd *protocol.Command, err error) {
	defer func() {
		if p := recover(); p != nil {
			cmd, err = nil, fmt.Errorf("%w: decoder panicked: %v", ErrCommandInvalid, p)
		}
	}()
	// The decoder reads null as an empty object, which would be a pong.
	if i := cfjson.SkipSpace(line, 0); i == len(line) || line[i] != '{' {
		return nil, ErrCommandInvalid
	}
	if len(line) >= screenedFrom && !screenJSON(line) {
		return nil, ErrCommandParts
	}
	cmd = new(protocol.Command)
	if err := cfjson.Unmarshal(line, cmd, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommandInvalid, err)
	}
	if cmd.Id == 0 && hasRequest(cmd) {
		return nil, ErrCommandID
	}
	if routing.LossyJSON(line) {
		spoilNames(cmd)
	}
	return cmd, nil
}

// hasRequest reports whether cmd contains a request that gets a reply.
func hasRequest(cmd *protocol.Command) bool {
	return cmd.Connect != nil || cmd.Subscribe != nil || cmd.Unsubscribe != nil || cmd.Publish != nil ||
		cmd.Presence != nil || cmd.PresenceStats != nil || cmd.History != nil || cmd.Ping != nil ||
		cmd.Rpc != nil || cmd.Refresh != nil || cmd.SubRefresh != nil
}

// AppendReply appends r as JSON, without a newline. Raw fields of r, such as data, must be JSON; otherwise AppendReply
// returns dst unchanged and an error.
func AppendReply(dst []byte, r *protocol.Reply) ([]byte, error) {
	out := r.AppendJSON(dst)
	// The generated encoder copies raw fields without checking them, and a reply that is not JSON would break the whole
	// frame. Replies are small, so a check is cheap.
	if !ValidJSON(out[len(dst):]) {
		return dst, errors.New("encode reply: a raw field is not JSON")
	}
	return out, nil
}

// AppendPublication appends the push of one publication as JSON, without a newline:
// {"push":{"channel":…,"pub":{"data":…,"offset":…}}}. data must be compact JSON and is copied unchanged. An offset of 0
// means none and is omitted. AppendPublication does not allocate if dst has room.
func AppendPublication(dst []byte, channel string, data []byte, offset uint64) []byte {
	dst = appendPush(dst, channel)
	dst = append(append(dst, `,"pub":{"data":`...), data...)
	if offset != 0 {
		dst = append(dst, `,"offset":`...)
		dst = cfjson.AppendUint(dst, offset)
	}
	return append(dst, "}}}"...)
}

// AppendUnsubscribePush appends the push that ends a subscription as JSON, without a newline. code and reason are those
// of an Unsubscribe.
func AppendUnsubscribePush(dst []byte, channel string, code uint32, reason string) []byte {
	dst = appendPush(dst, channel)
	dst = append(dst, `,"unsubscribe":{"code":`...)
	dst = cfjson.AppendUint(dst, uint64(code))
	dst = append(dst, `,"reason":`...)
	dst = cfjson.AppendString(dst, reason)
	return append(dst, "}}}"...)
}

// AppendMessage appends the push of a message as JSON, without a newline: {"push":{"message":{"data":…}}}. data must be
// compact JSON and is copied unchanged. AppendMessage does not allocate if dst has room.
func AppendMessage(dst, data []byte) []byte {
	dst = append(append(dst, `{"push":{"message":{"data":`...), data...)
	return append(dst, "}}}"...)
}

func appendPush(dst []byte, channel string) []byte {
	return cfjson.AppendString(append(dst, `{"push":{"channel":`...), channel)
}
