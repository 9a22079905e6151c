package proto

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/centrifugal/protocol"
	"github.com/centrifugal/protocol/cfjson"
)

// PingFrameJSON is the payload of a server's ping, an empty reply, and of the
// client's pong, an empty command.
const PingFrameJSON = "{}"

// CommandsMax is how many commands one frame may hold. A client that comes back
// subscribes to all its channels in one frame, so it is well above the number of
// channels a client is usually allowed.
const CommandsMax = 1024

// Errors of DecodeJSON. A client that causes one broke the protocol and is
// closed with DisconnectBadRequest.
var (
	ErrFrameEmpty      = errors.New("decode commands: empty frame")
	ErrTooManyCommands = fmt.Errorf("decode commands: more than %d in a frame", CommandsMax)
	ErrCommandInvalid  = errors.New("decode command: not a JSON object of a command's form")
	ErrCommandID       = errors.New("decode command: a request needs an id above 0")
)

// DecodeJSON calls fn for each command of a frame in order: JSON objects joined
// by single newlines, one more at the end allowed. Fields that are not known are
// ignored, as clients may be newer than the server.
//
// It stops at the first error. If fn returned it, it is returned as it is;
// otherwise errors.Is finds one of those above, the commands before it have been
// handled, and the client is to be closed with DisconnectBadRequest.
//
// A command with neither request nor id is a pong. Every other one but send has
// an id above 0. It may still have no request, when it asks for something
// unknown, or several, of which the first in the order of protocol.Command
// counts. A command is fn's alone and does not alias frame.
func DecodeJSON(frame []byte, fn func(*protocol.Command) error) error {
	frame = bytes.TrimSuffix(frame, newline)
	if len(frame) == 0 {
		return ErrFrameEmpty
	}
	for n := 0; ; n++ {
		if n == CommandsMax {
			return ErrTooManyCommands
		}
		line, rest, more := bytes.Cut(frame, newline)
		cmd, err := decodeCommand(line)
		if err != nil {
			return err
		}
		if err := fn(cmd); err != nil {
			return err
		}
		if !more {
			return nil
		}
		frame = rest
	}
}

var newline = []byte{'\n'}

// decodeCommand decodes one command. The generated decoder is not supposed to
// panic, and fuzzing has not found it to; but if it does, then only the client
// that sent such a command is to suffer.
func decodeCommand(line []byte) (cmd *protocol.Command, err error) {
	defer func() {
		if p := recover(); p != nil {
			cmd, err = nil, fmt.Errorf("%w: decoder panicked: %v", ErrCommandInvalid, p)
		}
	}()
	// The decoder takes null for an empty object, which would be a pong.
	if i := cfjson.SkipSpace(line, 0); i == len(line) || line[i] != '{' {
		return nil, ErrCommandInvalid
	}
	cmd = new(protocol.Command)
	if err := cfjson.Unmarshal(line, cmd, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommandInvalid, err)
	}
	if cmd.Id == 0 && hasRequest(cmd) {
		return nil, ErrCommandID
	}
	return cmd, nil
}

// hasRequest reports whether cmd holds a request that is answered.
func hasRequest(cmd *protocol.Command) bool {
	return cmd.Connect != nil || cmd.Subscribe != nil || cmd.Unsubscribe != nil || cmd.Publish != nil ||
		cmd.Presence != nil || cmd.PresenceStats != nil || cmd.History != nil || cmd.Ping != nil ||
		cmd.Rpc != nil || cmd.Refresh != nil || cmd.SubRefresh != nil
}

// AppendReply appends r as JSON, without a newline. Raw fields of r, such as
// data, must be JSON, else it is an error and dst is returned as it was.
func AppendReply(dst []byte, r *protocol.Reply) ([]byte, error) {
	out := r.AppendJSON(dst)
	// The generated encoder copies raw fields unseen. Replies are small, and
	// one that is no JSON would take the whole frame with it.
	if !ValidJSON(out[len(dst):]) {
		return dst, errors.New("encode reply: a raw field is not JSON")
	}
	return out, nil
}

// AppendPublication appends the push of one publication as JSON, without a
// newline: {"push":{"channel":…,"pub":{"data":…,"offset":…}}}. data is compact
// JSON and copied as it is; an offset of 0 means none and is left out. It
// allocates nothing when dst has the room.
func AppendPublication(dst []byte, channel string, data []byte, offset uint64) []byte {
	dst = appendPush(dst, channel)
	dst = append(append(dst, `,"pub":{"data":`...), data...)
	if offset != 0 {
		dst = append(dst, `,"offset":`...)
		dst = cfjson.AppendUint(dst, offset)
	}
	return append(dst, "}}}"...)
}

// AppendUnsubscribePush appends the push that ends a subscription as JSON,
// without a newline. Codes and reasons are those of the table of unsubscribes.
func AppendUnsubscribePush(dst []byte, channel string, code uint32, reason string) []byte {
	dst = appendPush(dst, channel)
	dst = append(dst, `,"unsubscribe":{"code":`...)
	dst = cfjson.AppendUint(dst, uint64(code))
	dst = append(dst, `,"reason":`...)
	dst = cfjson.AppendString(dst, reason)
	return append(dst, "}}}"...)
}

// AppendMessage appends the push of a message as JSON, without a newline: {"push":{"message":{"data":…}}}. data is compact JSON and copied
// as it is. It allocates nothing when dst has the room.
func AppendMessage(dst, data []byte) []byte {
	dst = append(append(dst, `{"push":{"message":{"data":`...), data...)
	return append(dst, "}}}"...)
}

func appendPush(dst []byte, channel string) []byte {
	return cfjson.AppendString(append(dst, `{"push":{"channel":`...), channel)
}
