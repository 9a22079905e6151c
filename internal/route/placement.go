package route

import "log/slog"

// Unplaced is why a record has no place that its rule could name.
type Unplaced uint8

// The reasons for which a record is counted as unplaced.
const (
	Placed          Unplaced = iota // It has one.
	UnplacedNoRoute                 // No rule for it.
	UnplacedMissing                 // The template's key or header is missing or empty.
	UnplacedText                    // The template's key or header is not valid UTF-8.
	UnplacedLength                  // The channel's name would be longer than ChannelBytesMax.
	UnplacedCount                   // How many there are, Placed counted.
)

// String returns the reason as metrics and logs name it.
func (u Unplaced) String() string {
	return [UnplacedCount]string{"placed", "no_route", "missing", "not_utf8", "too_long"}[u]
}

// LogValue implements slog.LogValuer.
func (u Unplaced) LogValue() slog.Value { return slog.StringValue(u.String()) }

// AllUnplaced returns every reason, for a metric that starts at zero.
func AllUnplaced() []Unplaced {
	return []Unplaced{UnplacedNoRoute, UnplacedMissing, UnplacedText, UnplacedLength}
}

// Placement is where a record goes. Place sets all of it. Its memory is its own and used again by the next Place: Channels are
// valid until then. The zero value is ready for use.
type Placement struct {
	Rule     int      // Index of the rule that decided; -1: none.
	Why      Unplaced // Why the rule could not place the record; Placed when it could.
	Channels [][]byte // Names of the channels that it goes to, each once.

	names []byte // What Channels point into.
}

// scratchBytes is room for a name and for the part of it that turns out to be too much.
const scratchBytes = 2 * ChannelBytesMax

// reset empties p and sees that it has memory.
func (p *Placement) reset() {
	if p.names == nil {
		p.names, p.Channels = make([]byte, 0, scratchBytes), make([][]byte, 0, 1)
	}
	p.Rule, p.Why, p.Channels, p.names = -1, Placed, p.Channels[:0], p.names[:0]
}
