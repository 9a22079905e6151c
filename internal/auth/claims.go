package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// Limits of what a token may contain. A token is also bounded as a whole, see Options.BytesMax.
const (
	UserBytesMax    = 255  // Bytes of a user's name, like that of a record's header.
	ChannelBytesMax = 255  // Bytes of a channel's name.
	ListMax         = 4096 // Elements of a list.
)

// Claims is what a verified token says.
type Claims struct {
	User     string          // sub; empty: the client has no user.
	Channel  string          // channel, of a subscription token; empty in a connection token.
	Channels []string        // channels and the names of subs, each once, in order: subscribed to by the server.
	Info     json.RawMessage // info, or b64info decoded; nil: none. It is valid JSON without line breaks.
	Meta     json.RawMessage // meta, in the same form; nil: none.
	ExpireAt time.Time       // When the connection or subscription ends; zero: never. With a monotonic reading.

	// Lists are the claims that Options.Lists names, with the texts in them. A claim that a token lacks has no entry.
	Lists map[string][]string

	exp, nbf *jwt.NumericDate
	issuer   string
	audience jwt.ClaimStrings
}

// GetExpirationTime implements jwt.Claims.
func (c *Claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.exp, nil }

// GetNotBefore implements jwt.Claims.
func (c *Claims) GetNotBefore() (*jwt.NumericDate, error) { return c.nbf, nil }

// GetIssuedAt implements jwt.Claims. When a token was issued decides nothing.
func (c *Claims) GetIssuedAt() (*jwt.NumericDate, error) { return nil, nil } //nolint:nilnil // As jwt has it.

// GetAudience implements jwt.Claims.
func (c *Claims) GetAudience() (jwt.ClaimStrings, error) { return c.audience, nil }

// GetIssuer implements jwt.Claims.
func (c *Claims) GetIssuer() (string, error) { return c.issuer, nil }

// GetSubject implements jwt.Claims.
func (c *Claims) GetSubject() (string, error) { return c.User, nil }

// decoding is the claims of a token while they are decoded.
type decoding struct {
	Claims
	lists []string // Options.Lists.
}

// UnmarshalJSON implements json.Unmarshaler. Names are compared byte for byte, and none may be there twice:
// encoding/json would take Sub for sub, and the last of two.
func (d *decoding) UnmarshalJSON(text []byte) error {
	members, err := members(text)
	if err != nil {
		return err
	}
	d.User, err = readText(members, "sub", UserBytesMax)
	if err != nil {
		return err
	}
	if d.Channel, err = readText(members, "channel", ChannelBytesMax); err != nil {
		return err
	}
	if d.issuer, err = readText(members, "iss", math.MaxInt); err != nil {
		return err
	}
	if d.exp, err = readTime(members, "exp"); err != nil {
		return err
	}
	if d.nbf, err = readTime(members, "nbf"); err != nil {
		return err
	}
	expireAt, err := readTime(members, "expire_at")
	if err != nil {
		return err
	}
	switch {
	case expireAt == nil && d.exp != nil:
		d.ExpireAt = d.exp.Time
	case expireAt != nil && expireAt.Unix() != 0: // 0 stands for never.
		d.ExpireAt = expireAt.Time
	}
	if raw, ok := members["aud"]; ok {
		if text, isText := asText(raw); isText {
			d.audience = jwt.ClaimStrings{text}
		} else if d.audience, err = readList(members, "aud", math.MaxInt); err != nil {
			return err
		}
	}
	if err := d.readChannels(members); err != nil {
		return err
	}
	if err := d.readInfo(members); err != nil {
		return err
	}
	d.Meta = compact(members["meta"])
	for _, name := range d.lists {
		if _, ok := members[name]; !ok {
			continue
		}
		if d.Lists == nil {
			d.Lists = make(map[string][]string, len(d.lists))
		}
		if d.Lists[name], err = readList(members, name, ChannelBytesMax); err != nil {
			return &Error{Fault: FaultClaims}
		}
	}
	return nil
}

// readChannels reads the claims channels and subs.
func (d *decoding) readChannels(all map[string]json.RawMessage) error {
	list, err := readList(all, "channels", ChannelBytesMax)
	if err != nil {
		return err
	}
	if raw, ok := all["subs"]; ok {
		_, names, err := orderedMembers(raw)
		if err != nil {
			return claimFault("subs")
		}
		list = append(list, names...)
	}
	if len(list) > ListMax {
		return claimFault("channels")
	}
	seen := make(map[string]bool, len(list))
	for _, name := range list {
		switch {
		case name == "" || len(name) > ChannelBytesMax:
			return claimFault("channels")
		case !seen[name]:
			seen[name] = true
			d.Channels = append(d.Channels, name)
		}
	}
	return nil
}

// readInfo reads the claims info and b64info.
func (d *decoding) readInfo(all map[string]json.RawMessage) error {
	d.Info = compact(all["info"])
	text, err := readText(all, "b64info", math.MaxInt)
	if err != nil || text == "" {
		return err
	}
	info, decodeErr := base64.StdEncoding.DecodeString(text)
	if decodeErr != nil || !json.Valid(info) {
		return claimFault("b64info")
	}
	d.Info = compact(info)
	return nil
}

// compact returns valid JSON without white space, of which line breaks would end a message of the JSON protocol.
func compact(text json.RawMessage) json.RawMessage {
	if text == nil {
		return nil
	}
	var b bytes.Buffer
	_ = json.Compact(&b, text) // It is valid.
	return b.Bytes()
}

var errTwice = errors.New("a name is there twice")

// members returns the members of a JSON object.
func members(text []byte) (map[string]json.RawMessage, error) {
	all, _, err := orderedMembers(text)
	if err != nil {
		return nil, fault(FaultMalformed)
	}
	return all, nil
}

// orderedMembers returns the members of a JSON object, and their names in order. Names that are there twice, or that
// are not valid UTF-8, are an error.
func orderedMembers(text []byte) (all map[string]json.RawMessage, names []string, err error) {
	if !utf8.Valid(text) {
		return nil, nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, errors.New("not a JSON object")
	}
	all = make(map[string]json.RawMessage)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, nil, err
		}
		name, _ := t.(string)
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, nil, err
		}
		// U+FFFD may stand for anything that could not be decoded, so two names could have become one.
		if _, twice := all[name]; twice || strings.ContainsRune(name, utf8.RuneError) {
			return nil, nil, errTwice
		}
		all[name] = raw
		names = append(names, name)
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("text after the JSON object")
	}
	return all, names, nil
}

// asText returns a JSON string. One that cannot be decoded without loss is none: another name could be meant.
func asText(raw json.RawMessage) (string, bool) {
	var text string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &text) != nil ||
		strings.ContainsRune(text, utf8.RuneError) {
		return "", false
	}
	return text, true
}

// readText reads a text of at most bytesMax bytes; one that is missing is empty.
func readText(all map[string]json.RawMessage, name string, bytesMax int) (string, error) {
	raw, ok := all[name]
	if !ok {
		return "", nil
	}
	text, ok := asText(raw)
	if !ok || len(text) > bytesMax {
		return "", claimFault(name)
	}
	return text, nil
}

// readList reads a list of at most ListMax texts.
func readList(all map[string]json.RawMessage, name string, bytesMax int) ([]string, error) {
	raw, ok := all[name]
	if !ok {
		return nil, nil
	}
	var elements []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &elements) != nil || len(elements) > ListMax {
		return nil, claimFault(name)
	}
	list := make([]string, len(elements))
	for i, e := range elements {
		text, ok := asText(e)
		if !ok || len(text) > bytesMax {
			return nil, claimFault(name)
		}
		list[i] = text
	}
	return list, nil
}

// secondsMax is the last second of the year 9999. Later times are mistakes, such as milliseconds.
const secondsMax = 253402300799

// readTime reads a NumericDate (RFC 7519 §2), to the second; nil if it is missing.
func readTime(all map[string]json.RawMessage, name string) (*jwt.NumericDate, error) {
	raw, ok := all[name]
	if !ok {
		return nil, nil //nolint:nilnil // As jwt has it.
	}
	var seconds float64
	if raw[0] == '"' || json.Unmarshal(raw, &seconds) != nil || string(raw) == "null" || seconds < 0 ||
		seconds > secondsMax {
		return nil, claimFault(name)
	}
	return jwt.NewNumericDate(time.Unix(int64(seconds), 0)), nil
}
