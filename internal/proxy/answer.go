package proxy

import (
	"fmt"
	"time"
	"unicode/utf8"

	"wsd/internal/proto"
)

// Limits of what an answer may contain. It is also bounded as a whole, see Options.AnswerBytesMax.
const (
	userBytesMax    = 255  // Bytes of a user's name, as in tokens.
	channelBytesMax = 255  // Bytes of a channel's name.
	channelsMax     = 4096 // Channels that the server subscribes a client to.
	messageBytesMax = 1024 // Bytes of an error's message.

	// secondsMax is the last second of the year 9999. Later times are mistakes, such as milliseconds.
	secondsMax = 253402300799
)

// Answer is what a backend says. At most one of Error and Disconnect is set; then nothing else counts.
type Answer struct {
	Error      *Error
	Disconnect *Disconnect

	Given    bool              // There is a result, perhaps an empty one.
	User     string            // Of connect.
	ExpireAt time.Time         // When the connection or subscription expires, with a monotonic reading; zero: never.
	Expired  bool              // Of refresh and sub_refresh: it may not go on.
	Info     []byte            // What others may know of the client; nil: nothing.
	Meta     []byte            // What the backend wants to get with later calls, as JSON; nil: nothing.
	Data     []byte            // For the client; nil: nothing. JSON is compact.
	Channels []string          // Of connect: channels and subs, each once.
	SubData  map[string][]byte // Of connect: data of those channels that have some.
	Bytes    int               // Of the answer's text.
}

// Error is an error for the client.
type Error struct {
	Code      uint32
	Message   string
	Temporary bool
}

// Disconnect is how the client's connection is to be closed. Code is one that a close frame may have, from 3000 to
// 4999, and Reason fits one.
type Disconnect struct {
	Code   uint16
	Reason string
}

// Codes of close frames that a backend may use (RFC 6455 §7.4.2): those of the client protocol and of applications.
const (
	closeCodeLeast = 3000
	closeCodeMost  = 4999
	// closeReasonMax is how long the reason of a close frame may be (RFC 6455 §5.5).
	closeReasonMax = 123
)

// makeJSON makes the data fit for a client that takes JSON only.
func (a *Answer) makeJSON(depthMax int) (err error) {
	const fault = "the backend sent data for a client of JSON in base64 that are not JSON: %w"
	if a.Data != nil {
		if a.Data, err = proto.CompactJSON(nil, a.Data, depthMax); err != nil {
			return fmt.Errorf(fault, err)
		}
	}
	for name, data := range a.SubData {
		if a.SubData[name], err = proto.CompactJSON(nil, data, depthMax); err != nil {
			return fmt.Errorf(fault, err)
		}
	}
	return nil
}

// Memory returns about how much memory the answer takes.
func (a *Answer) Memory() int {
	const text, entry = 16, 48 // Bytes of a string, and of an entry of a map.
	n := len(a.User) + len(a.Info) + len(a.Meta) + len(a.Data)
	for _, name := range a.Channels {
		n += text + len(name)
	}
	for name, data := range a.SubData {
		n += entry + len(name) + len(data)
	}
	return n
}

// shorten cuts a text to at most n bytes, at the end of a character.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
