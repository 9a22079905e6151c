package route

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"

	"wsd/internal/kafka"
	"wsd/internal/routing"
)

// Overrides are headers by which a record itself says where it goes, whatever the rules say. An empty name switches one off. When a
// record has several, the narrowest counts: a connection, then a user, then channels, then everybody.
type Overrides struct {
	Topics      []string // Whose records are believed, as names or patterns; empty: those of all topics.
	Channels    string   // Header with names of channels, parted by commas; several such headers add up.
	Client      string   // Header with the id that a connection was told in the answer to its connect command.
	User        string   // Header with a user.
	Everybody   string   // Header that is true or 1, or false or 0 as if it were not there.
	ChannelsMax int      // Channels of one record, 1 to ChannelsMaxMost.
}

// ChannelsMaxMost is the most channels that a record may be allowed to name.
const ChannelsMaxMost = 256

// overrides are Overrides made ready.
type overrides struct {
	topics                            []Pattern
	channels, client, user, everybody string
	channelsMax                       int
}

// check returns the overrides made ready, nil for none.
func (o *Overrides) check() (*overrides, []*Fault) {
	if o == nil {
		return nil, nil
	}
	var faults []*Fault
	out := &overrides{channels: o.Channels, client: o.Client, user: o.User, everybody: o.Everybody, channelsMax: o.ChannelsMax}
	if o.ChannelsMax < 1 || o.ChannelsMax > ChannelsMaxMost {
		faults = append(faults, &Fault{Key: "overrides.channels_max", Value: strconv.Itoa(o.ChannelsMax), Problem: fmt.Sprintf("it must be from 1 to %d", ChannelsMaxMost)})
	}
	seen := make(map[string]string)
	for _, h := range [][2]string{{"channels", o.Channels}, {"client", o.Client}, {"user", o.User}, {"broadcast", o.Everybody}} {
		key, name := "overrides."+h[0], h[1]
		switch {
		case name == "":
			continue
		case len(name) > nameBytesMax || !utf8.ValidString(name):
			faults = append(faults, &Fault{Key: key, Value: name, Problem: "it is no header's name", Remedy: fmt.Sprintf("write at most %d bytes of UTF-8", nameBytesMax)})
		case seen[name] != "":
			faults = append(faults, &Fault{Key: key, Value: name, Problem: "it is the header of " + seen[name] + ", too", Remedy: "name another one"})
		}
		seen[name] = key
	}
	if len(seen) == 0 {
		faults = append(faults, &Fault{Key: "overrides", Problem: "they are enabled and every header is switched off", Remedy: "name a header or set overrides.enabled to false"})
	}
	for _, t := range o.Topics {
		p, err := ParseTopic(t)
		if err != nil {
			faults = append(faults, &Fault{Key: "overrides.topics", Value: t, Problem: err.Error()})
		}
		out.topics = append(out.topics, p)
	}
	return out, faults
}

// covers reports whether the records of the topic are believed.
func (o *overrides) covers(topic string) bool {
	for i := range o.topics {
		if o.topics[i].MatchString(topic) {
			return true
		}
	}
	return len(o.topics) == 0
}

// place decides by the record's headers. It returns false when they leave the decision to the rules. A header that is there and holds no possible
// target does not: what was meant for one user must not go where a rule sends it.
func (o *overrides) place(dst *Placement, rec *Record) bool {
	if len(rec.Headers) <= 1 { // The number 0.
		return false
	}
	if value, there := rec.Headers.find(o.client); there {
		nonce, id, ok := routing.ParseClientID(value)
		if !ok {
			return dst.badHeader(UnplacedHeader)
		}
		dst.To, dst.Nonce, dst.Conn = ToConnection, nonce, id
		return true
	}
	if value, there := rec.Headers.find(o.user); there {
		if why := textFault(value, 0); why != Placed {
			return dst.badHeader(why)
		}
		dst.names = append(dst.names, value...)
		dst.To, dst.User = ToUser, dst.names
		return true
	}
	if o.channels != "" && o.placeChannels(dst, rec) {
		return true
	}
	value, there := rec.Headers.find(o.everybody)
	switch {
	case !there, string(value) == "false", string(value) == "0":
		return false
	case string(value) == "true", string(value) == "1":
		dst.To = ToEverybody
		return true
	}
	return dst.badHeader(UnplacedHeader)
}

// find is Find for a header that may be switched off.
func (h Headers) find(name string) (value []byte, there bool) {
	if name == "" {
		return nil, false
	}
	return h.Find(name)
}

// badHeader notes why no header could place the record.
func (p *Placement) badHeader(why Unplaced) bool {
	p.To, p.Why, p.Channels = ToNobody, why, p.Channels[:0]
	return true
}

// placeChannels decides by the headers that list channels, if there are any.
func (o *overrides) placeChannels(dst *Placement, rec *Record) (decided bool) {
	n, b, ok := kafka.Varint(rec.Headers)
	// The names are copied one behind the other: the scratch must not move under those that point into it.
	for ; ok && n > 0; n-- {
		var name, value []byte
		if name, value, b, ok = next(b); !ok || string(name) != o.channels {
			continue
		}
		decided = true
		for more := true; more; {
			var channel []byte
			channel, value, more = bytes.Cut(value, comma)
			channel = bytes.TrimSpace(channel)
			if why := textFault(channel, 0); why != Placed {
				return dst.badHeader(why)
			}
			if dst.has(channel) {
				continue
			}
			if len(dst.Channels) == o.channelsMax {
				return dst.badHeader(UnplacedHeader)
			}
			dst.grow(len(channel))
			at := len(dst.names)
			dst.names = append(dst.names, channel...)
			dst.Channels = append(dst.Channels, dst.names[at:])
		}
	}
	if decided {
		dst.To = ToChannels
	}
	return decided
}

var comma = []byte{','}

func (p *Placement) has(channel []byte) bool {
	for _, name := range p.Channels {
		if bytes.Equal(name, channel) {
			return true
		}
	}
	return false
}

// grow makes room for n more bytes of names. Names that are there already keep the memory that they had.
func (p *Placement) grow(n int) {
	if len(p.names)+n > cap(p.names) {
		p.names = make([]byte, 0, max(2*cap(p.names), n))
	}
}
