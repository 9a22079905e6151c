package proxy

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// answerText is an answer in the form of Centrifugo's proxy (its proxy.proto). Fields that wsd has no use for, such as
// caps and override, are ignored.
type answerText struct {
	Result     *resultText `json:"result"`
	Error      *errorText  `json:"error"`
	Disconnect *struct {
		Code   uint32 `json:"code"`
		Reason string `json:"reason"`
	} `json:"disconnect"`
}

type errorText struct {
	Code      uint32 `json:"code"`
	Message   string `json:"message"`
	Temporary bool   `json:"temporary"`
}

type resultText struct {
	User     string             `json:"user"`
	ExpireAt int64              `json:"expire_at"`
	Expired  bool               `json:"expired"`
	Info     json.RawMessage    `json:"info"`
	B64Info  string             `json:"b64info"`
	Meta     json.RawMessage    `json:"meta"`
	Data     json.RawMessage    `json:"data"`
	B64Data  string             `json:"b64data"`
	Channels []string           `json:"channels"`
	Subs     map[string]subText `json:"subs"`
}

type subText struct {
	Data    json.RawMessage `json:"data"`
	B64Data string          `json:"b64data"`
}

// Codes of close frames that a backend may use (RFC 6455 §7.4.2): those of the client protocol and of applications.
const (
	closeCodeLeast = 3000
	closeCodeMost  = 4999
	// closeReasonMax is how long the reason of a close frame may be (RFC 6455 §5.5).
	closeReasonMax = 123
)

// Decode reads an answer. What it returns does not alias text. depthMax bounds how deep JSON for clients may be nested.
// Its errors contain no values of the answer.
func Decode(text []byte, depthMax int, now time.Time) (*Answer, error) {
	var t answerText
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, explain(err)
	}
	a := &Answer{Bytes: len(text)}
	switch {
	case t.Disconnect != nil:
		d := t.Disconnect
		if d.Code < closeCodeLeast || d.Code > closeCodeMost {
			return nil, fmt.Errorf("disconnect.code is %d, must be from %d to %d", d.Code, closeCodeLeast,
				closeCodeMost)
		}
		a.Disconnect = &Disconnect{Code: uint16(d.Code), Reason: shorten(d.Reason, closeReasonMax)}
		return a, nil
	case t.Error != nil:
		if t.Error.Code == 0 {
			return nil, errors.New("error.code is missing or 0")
		}
		a.Error = &Error{
			Code: t.Error.Code, Message: shorten(t.Error.Message, messageBytesMax), Temporary: t.Error.Temporary,
		}
		return a, nil
	case t.Result == nil && !isEmpty(text):
		return nil, errors.New("neither result, error nor disconnect")
	case t.Result == nil:
		return a, nil
	}
	a.Given = true
	return a, a.fill(t.Result, depthMax, now)
}

// isEmpty reports whether an answer says nothing, rather than something that nobody understands.
func isEmpty(text []byte) bool {
	var all map[string]json.RawMessage
	if json.Unmarshal(text, &all) != nil || all == nil {
		return false
	}
	for name, raw := range all {
		if string(raw) != "null" || !slices.Contains([]string{"result", "error", "disconnect"}, name) {
			return false
		}
	}
	return true
}

// fill reads a result.
func (a *Answer) fill(r *resultText, depthMax int, now time.Time) (err error) {
	a.User, a.Expired = r.User, r.Expired
	if len(r.User) > userBytesMax {
		return fmt.Errorf("user has %d bytes, at most %d allowed", len(r.User), userBytesMax)
	}
	switch {
	case r.ExpireAt < 0 || r.ExpireAt > secondsMax:
		return errors.New("expire_at is not a time in seconds since 1970")
	case r.ExpireAt > 0:
		// From here on the wall clock may be stepped: what is left counts.
		a.ExpireAt = now.Add(time.Unix(r.ExpireAt, 0).Sub(now))
	}
	if a.Info, err = payload("info", r.Info, r.B64Info, depthMax); err != nil {
		return err
	}
	if a.Data, err = payload("data", r.Data, r.B64Data, depthMax); err != nil {
		return err
	}
	if a.Meta, err = payload("meta", r.Meta, "", depthMax); err != nil {
		return err
	}
	return a.readChannels(r, depthMax)
}

// readChannels reads channels and subs.
func (a *Answer) readChannels(r *resultText, depthMax int) error {
	if len(r.Channels)+len(r.Subs) > channelsMax {
		return fmt.Errorf("more than %d channels", channelsMax)
	}
	seen := make(map[string]bool, len(r.Channels)+len(r.Subs))
	add := func(name string) error {
		if name == "" || len(name) > channelBytesMax {
			return fmt.Errorf("a channel's name has %d bytes, must have 1 to %d", len(name), channelBytesMax)
		}
		if !seen[name] {
			seen[name] = true
			a.Channels = append(a.Channels, name)
		}
		return nil
	}
	for _, name := range r.Channels {
		if err := add(name); err != nil {
			return err
		}
	}
	for name, sub := range r.Subs {
		if err := add(name); err != nil {
			return err
		}
		data, err := payload("data", sub.Data, sub.B64Data, depthMax)
		if err != nil {
			return err
		}
		if data != nil {
			if a.SubData == nil {
				a.SubData = make(map[string][]byte)
			}
			a.SubData[name] = data
		}
	}
	return nil
}

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

// payload returns what is given as JSON or in base64, of which the latter comes first, as Centrifugo has it. JSON is
// made compact: a line break in it would end the message that it becomes part of.
func payload(name string, raw json.RawMessage, b64 string, depthMax int) ([]byte, error) {
	if b64 != "" {
		data, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			return nil, fmt.Errorf("b64%s is not base64", name)
		}
		return data, nil
	}
	if len(raw) == 0 {
		return nil, nil
	}
	data, err := proto.CompactJSON(nil, raw, depthMax)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if name != "data" && string(data) == "null" {
		return nil, nil
	}
	return data, nil
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

// explain says what is wrong with JSON, without its values.
func explain(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s has the wrong type, %s", fieldName(e.Field), kindOfValue(e.Value))
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not JSON, from byte %d on", e.Offset)
	}
	return errors.New("not JSON")
}

func fieldName(field string) string {
	if field == "" {
		return "the answer"
	}
	return shorten(field, 64)
}

// kindOfValue is what encoding/json calls a value without the value: "number 1.5" is a number.
func kindOfValue(value string) string {
	for _, kind := range []string{"number", "string", "object", "array", "bool"} {
		if len(value) >= len(kind) && value[:len(kind)] == kind {
			return kind
		}
	}
	return "value of that type"
}
