package proxy

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"wsd/internal/proto"
)

// answerText is an answer in the form of Centrifugo's proxy (its proxy.proto).
type answerText struct {
	Result     json.RawMessage `json:"result"`
	Error      *errorText      `json:"error"`
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

// What a result may have, by the kinds of calls. Fields that wsd has no use for, such as caps and override, and those
// of other kinds, are ignored: a backend may use their names for something of its own.
type (
	connectText struct {
		User     string             `json:"user"`
		ExpireAt int64              `json:"expire_at"`
		Channels []string           `json:"channels"`
		Subs     map[string]subText `json:"subs"`
		infoText
		dataText
	}
	refreshText struct {
		ExpireAt int64 `json:"expire_at"`
		Expired  bool  `json:"expired"`
		infoText
	}
	subscribeText struct {
		ExpireAt int64 `json:"expire_at"`
		dataText
	}
	subRefreshText struct {
		ExpireAt int64 `json:"expire_at"`
		Expired  bool  `json:"expired"`
	}
	subText  struct{ dataText }
	dataText struct {
		Data    json.RawMessage `json:"data"`
		B64Data string          `json:"b64data"`
	}
	infoText struct {
		Info    json.RawMessage `json:"info"`
		B64Info string          `json:"b64info"`
		Meta    json.RawMessage `json:"meta"`
	}
)

// Decode reads the answer to a call of a kind. What it returns does not alias text. depthMax bounds how deep JSON for
// clients may be nested. Its errors contain no values of the answer.
func Decode(kind Kind, text []byte, depthMax int, now time.Time) (*Answer, error) {
	var t answerText
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, explain("", err)
	}
	a := &Answer{Bytes: len(text)}
	given := len(t.Result) > 0 && string(t.Result) != "null"
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
	case !given && !isEmpty(text):
		return nil, errors.New("neither result, error nor disconnect")
	case !given:
		return a, nil
	}
	a.Given = true
	d := decoder{a: a, depthMax: depthMax, now: now}
	d.read(kind, t.Result)
	return a, d.err
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

// decoder reads a result. It does nothing after an error.
type decoder struct {
	a        *Answer
	depthMax int
	now      time.Time
	err      error
}

func (d *decoder) read(kind Kind, raw []byte) {
	switch kind {
	case KindConnect:
		var t connectText
		d.unmarshal(raw, &t)
		d.user(t.User)
		d.expire(t.ExpireAt)
		d.info(&t.infoText)
		d.a.Data = d.payload("data", t.Data, t.B64Data)
		d.channels(&t)
	case KindRefresh:
		var t refreshText
		d.unmarshal(raw, &t)
		d.expire(t.ExpireAt)
		d.info(&t.infoText)
		d.a.Expired = t.Expired
	case KindSubscribe:
		var t subscribeText
		d.unmarshal(raw, &t)
		d.expire(t.ExpireAt)
		d.a.Data = d.payload("data", t.Data, t.B64Data)
	case KindSubRefresh:
		var t subRefreshText
		d.unmarshal(raw, &t)
		d.expire(t.ExpireAt)
		d.a.Expired = t.Expired
	case KindSend: // The client gets no reply.
	default:
		var t dataText
		d.unmarshal(raw, &t)
		d.a.Data = d.payload("data", t.Data, t.B64Data)
	}
}

func (d *decoder) unmarshal(raw []byte, to any) {
	if err := json.Unmarshal(raw, to); err != nil {
		d.err = explain("result", err)
	}
}

func (d *decoder) user(name string) {
	if d.err == nil && len(name) > userBytesMax {
		d.err = fmt.Errorf("user has %d bytes, at most %d allowed", len(name), userBytesMax)
	}
	d.a.User = name
}

func (d *decoder) expire(at int64) {
	switch {
	case d.err != nil || at == 0:
	case at < 0 || at > secondsMax:
		d.err = errors.New("expire_at is not a time in seconds since 1970")
	default:
		// From here on the wall clock may be stepped: what is left counts.
		d.a.ExpireAt = d.now.Add(time.Unix(at, 0).Sub(d.now))
	}
}

func (d *decoder) info(t *infoText) {
	d.a.Info = d.payload("info", t.Info, t.B64Info)
	d.a.Meta = d.payload("meta", t.Meta, "")
}

// channels reads channels and subs.
func (d *decoder) channels(t *connectText) {
	if d.err == nil && len(t.Channels)+len(t.Subs) > channelsMax {
		d.err = fmt.Errorf("more than %d channels", channelsMax)
	}
	if d.err != nil {
		return
	}
	seen := make(map[string]bool, len(t.Channels)+len(t.Subs))
	for _, name := range slices.Concat(t.Channels, slices.Sorted(maps.Keys(t.Subs))) {
		if name == "" || len(name) > channelBytesMax {
			d.err = fmt.Errorf("a channel's name has %d bytes, must have 1 to %d", len(name), channelBytesMax)
			return
		}
		if !seen[name] {
			seen[name] = true
			d.a.Channels = append(d.a.Channels, name)
		}
	}
	for name, sub := range t.Subs {
		data := d.payload("data", sub.Data, sub.B64Data)
		if data == nil {
			continue
		}
		if d.a.SubData == nil {
			d.a.SubData = make(map[string][]byte)
		}
		d.a.SubData[name] = data
	}
}

// payload returns what is given as JSON or in base64, of which the latter comes first, as Centrifugo has it. JSON is
// made compact: a line break in it would end the message that it becomes part of.
func (d *decoder) payload(name string, raw json.RawMessage, b64 string) []byte {
	if d.err != nil || len(raw) == 0 && b64 == "" {
		return nil
	}
	if b64 != "" {
		data, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			d.err = fmt.Errorf("b64%s is not base64", name)
		}
		return data
	}
	data, err := proto.CompactJSON(nil, raw, d.depthMax)
	if err != nil {
		d.err = fmt.Errorf("%s: %w", name, err)
	}
	if name != "data" && string(data) == "null" {
		return nil
	}
	return data
}

// explain says what is wrong with JSON, without its values. within is the field that it is the value of.
func explain(within string, err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s has the wrong type, %s", fieldName(within, e.Field), kindOfValue(e.Value))
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not JSON, from byte %d on", e.Offset)
	}
	return errors.New("not JSON")
}

func fieldName(within, field string) string {
	switch {
	case within != "" && field != "":
		field = within + "." + field
	case within != "":
		field = within
	case field == "":
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
