package route

import (
	"bytes"
	"log/slog"
	"unsafe"

	"github.com/tidwall/gjson"

	"wsd/internal/routing"
)

// Target is where a record goes.
type Target uint8

// The targets.
const (
	ToNobody     Target = iota // The record cannot be placed and is skipped. Why has the reason.
	ToChannels                 // The subscribers of Channels.
	ToConnection               // The connection of Client.
	ToUser                     // The connections of User.
	ToEverybody                // Every connection.
	ToDrop                     // Nobody, because a rule drops the record.
	ToStop                     // Nobody, and the partition stops before the record. Why has the reason.
)

// Unplaced is why a rule or a header cannot place a record.
type Unplaced uint8

// The reasons for which a record is counted as unplaced.
const (
	Placed          Unplaced = iota // The record can be placed.
	UnplacedNoRoute                 // No rule matches the record.
	// The template's key, header or field is missing, empty, or not a text, number or boolean.
	UnplacedMissing
	UnplacedText   // The text for the name is not valid UTF-8.
	UnplacedLength // The channel's name would be longer than ChannelBytesMax.
	UnplacedHeader // An override header has an impossible target.
	UnplacedCount  // The number of values, including Placed.
)

// String returns the reason as metrics and logs name it.
func (u Unplaced) String() string {
	return [UnplacedCount]string{"placed", "no_route", "missing", "not_utf8", "too_long", "bad_header"}[u]
}

// LogValue implements slog.LogValuer.
func (u Unplaced) LogValue() slog.Value { return slog.StringValue(u.String()) }

// AllUnplaced returns every reason, for a metric that starts at zero.
func AllUnplaced() []Unplaced {
	return []Unplaced{UnplacedNoRoute, UnplacedMissing, UnplacedText, UnplacedLength, UnplacedHeader}
}

// By is what decided where a record goes.
type By uint8

// What can decide: a rule, or a header of the record.
const (
	ByRule By = iota
	ByChannels
	ByConnection
	ByUser
	ByEverybody
	ByCount // The number of values.
)

// String returns the name that the metric has for it.
func (b By) String() string {
	return [ByCount]string{"rule", "channels", "connection", "user", "everybody"}[b]
}

// AllBy returns every value, for a metric that starts at zero.
func AllBy() []By { return []By{ByRule, ByChannels, ByConnection, ByUser, ByEverybody} }

// Placement is where a record goes. Place sets every field. The next Place reuses the memory, so Channels and User are
// valid until then. The zero value is ready for use.
type Placement struct {
	To   Target
	Rule int // The index of the rule that decided, or -1 if a header did, or nothing.
	// Why is the reason for which the rule or the header cannot place the record, or Placed. Even then the record may
	// go to a channel: the one that the rule names for such records.
	Why      Unplaced
	Channels [][]byte         // ToChannels: the names of the channels, at least one, none twice.
	User     []byte           // ToUser: the user.
	Client   routing.ClientID // ToConnection: the id of the connection.

	names  []byte         // What Channels and User point into.
	fields []gjson.Result // The record's JSON fields that have been read, by index in the table.
	read   uint64         // One bit for each field that has been read.
}

// By returns what decided.
func (p *Placement) By() By {
	switch p.To {
	case ToConnection:
		return ByConnection
	case ToUser:
		return ByUser
	case ToEverybody:
		return ByEverybody
	case ToChannels:
		if p.Rule < 0 {
			return ByChannels
		}
	default:
	}
	return ByRule
}

// scratchBytes has room for a name and for a part that turns out to be too long.
const scratchBytes = 2 * ChannelBytesMax

// reset empties p and allocates its memory the first time.
func (p *Placement) reset() {
	if p.names == nil {
		p.names, p.Channels = make([]byte, 0, scratchBytes), make([][]byte, 0, 1)
	}
	p.To, p.Rule, p.Why, p.Channels, p.User, p.names = ToNobody, -1, Placed, p.Channels[:0], nil, p.names[:0]
}

// channel makes name, which is in p.names, the only channel.
func (p *Placement) channel(name []byte) {
	p.To = ToChannels
	p.Channels = append(p.Channels, name)
}

// field returns a JSON field of the record's value. It reads each field once for a record. The result points into the
// value.
func (p *Placement) field(fields []string, index int, rec *Record) *gjson.Result {
	if p.read>>index&1 == 0 {
		if len(p.fields) < len(fields) {
			p.fields = make([]gjson.Result, len(fields))
		}
		p.read |= 1 << index
		p.fields[index] = readField(rec.Value, fields[index])
	}
	return &p.fields[index]
}

// forget drops all references to the record's value.
func (p *Placement) forget() {
	if p.read != 0 {
		p.read = 0
		clear(p.fields)
	}
}

// readField returns a field of a JSON value. Only objects and arrays have fields; gjson would search any other text for
// one.
func readField(value []byte, path string) gjson.Result {
	value = bytes.TrimLeft(value, " \t\r\n")
	if len(value) == 0 || value[0] != '{' && value[0] != '[' {
		return gjson.Result{}
	}
	return gjson.Get(unsafe.String(unsafe.SliceData(value), len(value)), path)
}
