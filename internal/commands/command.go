package commands

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// What a command may ask for.
const (
	Disconnect  = "disconnect"
	Subscribe   = "subscribe"
	Unsubscribe = "unsubscribe"
	Refresh     = "refresh"
)

// version is the form of commands. A node skips those of another one, which it would misunderstand.
const version = 1

// Limits of a command, in bytes, except for KeepMax.
const (
	UserMax    = 255
	ClientMax  = 64
	ChannelMax = 255
	ReasonMax  = 123 // What a close frame has room for (RFC 6455 §5.5).
	DataMax    = 64 << 10
	EpochMax   = 64
	KeepMax    = 1000 // Clients in Keep.

	originMax = 255
	recordMax = 192 << 10 // A record that is larger is not a command.

	// RecordBytesMax is the size of the largest record that Send writes, with its topic and key.
	RecordBytesMax = recordMax + 1024
)

// ID names a command.
type ID [16]byte

// NewID returns an id that nobody else has.
func NewID() (id ID) {
	_, _ = rand.Read(id[:]) // Never fails.
	return id
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(id[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(id)) {
		return errors.New("the id is not 32 hexadecimal digits")
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// Command is what the server API wants done with the connections of a user, or with one of them.
type Command struct {
	Version int    `json:"v"`
	ID      ID     `json:"id"`
	Origin  string `json:"origin"` // Name of the node that it comes from.
	Do      string `json:"do"`     // Disconnect, Subscribe, Unsubscribe or Refresh.

	User   string `json:"user,omitempty"`   // Whose connections; may be empty if Client is not.
	Client string `json:"client,omitempty"` // The one connection; empty: all of the user.

	// Of Subscribe, and of Unsubscribe, where an empty channel means all.
	Channel string `json:"channel,omitempty"`

	// Of Disconnect: clients that stay, and the close frame's code, from 3000 to 4999 or 0 for 3503, and its reason.
	Keep   []string `json:"keep,omitempty"`
	Code   int      `json:"code,omitempty"`
	Reason string   `json:"reason,omitempty"`

	// Of Subscribe: what the client gets with the push, and the position from which on it gets what the stream holds.
	Data  []byte    `json:"data,omitempty"`
	Since *Position `json:"since,omitempty"`

	Expired  bool  `json:"expired,omitempty"`   // Of Refresh: the connections end as expired.
	ExpireAt int64 `json:"expire_at,omitempty"` // Of Subscribe and Refresh, in seconds of Unix time; 0: never.
}

// Position is a position of a channel's stream.
type Position struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch,omitempty"`
}

// expireAtMax is the last second of the year 9999. Later times are mistakes, such as milliseconds.
const expireAtMax = 253402300799

// Check returns what is wrong with the command, in words for whoever gave it.
func (c *Command) Check() error {
	short := func(name, value string, most int) error {
		switch {
		case len(value) > most:
			return fmt.Errorf("%s has %d bytes, at most %d are allowed", name, len(value), most)
		case !utf8.ValidString(value):
			return fmt.Errorf("%s is not valid UTF-8", name)
		}
		return nil
	}
	for _, err := range []error{
		short("user", c.User, UserMax), short("client", c.Client, ClientMax), short("channel", c.Channel, ChannelMax),
		short("reason", c.Reason, ReasonMax),
	} {
		if err != nil {
			return err
		}
	}
	switch {
	case !slices.Contains([]string{Disconnect, Subscribe, Unsubscribe, Refresh}, c.Do):
		return fmt.Errorf("%.20q is not a command", c.Do)
	case c.User == "" && c.Client == "":
		return errors.New("name a user or a client")
	case c.Do == Subscribe && c.Channel == "":
		return errors.New("name a channel")
	case c.Code != 0 && (c.Code < 3000 || c.Code > 4999):
		return fmt.Errorf("code is %d, must be from 3000 to 4999", c.Code)
	case len(c.Keep) > KeepMax:
		return fmt.Errorf("whitelist has %d clients, at most %d are allowed", len(c.Keep), KeepMax)
	case slices.ContainsFunc(c.Keep, func(id string) bool { return len(id) > ClientMax }):
		return fmt.Errorf("whitelist has a client of more than %d bytes", ClientMax)
	case len(c.Data) > DataMax:
		return fmt.Errorf("data has %d bytes, at most %d are allowed", len(c.Data), DataMax)
	case c.Since != nil && len(c.Since.Epoch) > EpochMax:
		return fmt.Errorf("epoch has %d bytes, at most %d are allowed", len(c.Since.Epoch), EpochMax)
	case c.ExpireAt < 0 || c.ExpireAt > expireAtMax:
		return fmt.Errorf("expire_at is %d, must be seconds of Unix time", c.ExpireAt)
	}
	return nil
}

// Append appends the command as a record's value.
func (c *Command) Append(dst []byte) ([]byte, error) {
	c.Version = version
	value, err := json.Marshal(c)
	if err == nil && len(value) > recordMax {
		err = fmt.Errorf("the command has %d bytes, at most %d are allowed", len(value), recordMax)
	}
	return append(dst, value...), err
}

var errVersion = errors.New("of a version that this wsd does not know")

// Parse parses a record's value.
func Parse(value []byte) (*Command, error) {
	if len(value) > recordMax {
		return nil, fmt.Errorf("has %d bytes, at most %d are allowed", len(value), recordMax)
	}
	if !utf8.Valid(value) {
		return nil, errors.New("not valid UTF-8")
	}
	var head struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(value, &head); err != nil {
		return nil, fmt.Errorf("not a command: %w", err)
	}
	if head.Version != version {
		return nil, errVersion
	}
	c := &Command{}
	if err := json.Unmarshal(value, c); err != nil {
		return nil, fmt.Errorf("not a command: %w", err)
	}
	if len(c.Origin) > originMax || c.ID == (ID{}) {
		return nil, errors.New("without an id, or with a long origin")
	}
	return c, c.Check()
}
