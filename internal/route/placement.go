package route

import (
	"bytes"
	"log/slog"
	"unsafe"

	"github.com/tidwall/gjson"

	"wsd/internal/routing"
)

// Target is the kind of place that a record goes to.
type Target uint8

// The targets.
const (
	ToNobody     Target = iota // It has no place and is skipped; Why says why.
	ToChannels                 // To everybody who is subscribed to one of Channels.
	ToConnection               // To the connection Conn of the process with Nonce.
	ToUser                     // To the connections of User.
	ToEverybody                // To every connection.
	ToDrop                     // To nobody, as a rule wants it.
	ToStop                     // To nobody, and nothing behind it in its partition goes anywhere either; Why says why.
)

// Unplaced is why a record has no place that its rule, or a header, could name.
type Unplaced uint8

// The reasons for which a record is counted as unplaced.
const (
	Placed          Unplaced = iota // It has one.
	UnplacedNoRoute                 // No rule fits it.
	UnplacedMissing                 // The template's key, header or field is missing, empty, or no text, number or boolean.
	UnplacedText                    // It is not valid UTF-8.
	UnplacedLength                  // The channel's name would be longer than ChannelBytesMax.
	UnplacedHeader                  // A header that is to override the rules holds no possible target.
	UnplacedCount                   // How many there are, Placed counted.
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

// By is what chose a record's place.
type By uint8

// What can choose it: a rule, or a header of the record.
const (
	ByRule By = iota
	ByChannels
	ByConnection
	ByUser
	ByEverybody
	ByCount // How many there are.
)

// String returns the name that the metric has for it.
func (b By) String() string {
	return [ByCount]string{"rule", "channels", "connection", "user", "everybody"}[b]
}

// AllBy returns each, for a metric that starts at zero.
func AllBy() []By { return []By{ByRule, ByChannels, ByConnection, ByUser, ByEverybody} }

// Placement is where a record goes. Place sets all of it. Its memory is its own and used again by the next Place: Channels and User are
// valid until then. The zero value is ready for use.
type Placement struct {
	To   Target
	Rule int // Index of the rule that decided; -1: a header did, or nothing.
	// Why the rule or the header could not place the record; Placed when it could. It may have a place all the same: the channel that
	// the rule has for this.
	Why      Unplaced
	Channels [][]byte       // ToChannels: their names, each once; at least one.
	User     []byte         // ToUser.
	Nonce    uint64         // ToConnection: of the process that owns it.
	Conn     routing.ConnID // ToConnection.

	names  []byte         // What Channels and User point into.
	fields []gjson.Result // JSON fields of the record that have been looked at, by index in the table.
	looked uint64         // Which of them.
}

// By returns what chose the place.
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

// scratchBytes is room for a name and for the part of it that turns out to be too much.
const scratchBytes = 2 * ChannelBytesMax

// reset empties p and sees that it has memory.
func (p *Placement) reset() {
	if p.names == nil {
		p.names, p.Channels = make([]byte, 0, scratchBytes), make([][]byte, 0, 1)
	}
	p.To, p.Rule, p.Why, p.Channels, p.User, p.names = ToNobody, -1, Placed, p.Channels[:0], nil, p.names[:0]
}

// channel makes name, which is in p.names, the one channel.
func (p *Placement) channel(name []byte) {
	p.To = ToChannels
	p.Channels = append(p.Channels, name)
}

// field returns a JSON field of the record's value, looked up once for a record. What it returns points into the value.
func (p *Placement) field(fields []string, index int, rec *Record) *gjson.Result {
	if p.looked>>index&1 == 0 {
		if len(p.fields) < len(fields) {
			p.fields = make([]gjson.Result, len(fields))
		}
		p.looked |= 1 << index
		p.fields[index] = look(rec.Value, fields[index])
	}
	return &p.fields[index]
}

// forget lets go of the record's value.
func (p *Placement) forget() {
	if p.looked != 0 {
		p.looked = 0
		clear(p.fields)
	}
}

// look finds a field. Only an object or an array has any; gjson would search other text for one.
func look(value []byte, path string) gjson.Result {
	value = bytes.TrimLeft(value, " \t\r\n")
	if len(value) == 0 || value[0] != '{' && value[0] != '[' {
		return gjson.Result{}
	}
	return gjson.Get(unsafe.String(unsafe.SliceData(value), len(value)), path)
}
