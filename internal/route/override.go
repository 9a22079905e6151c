package route

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"

	"wsd/internal/kafka"
	"wsd/internal/routing"
)

// Overrides are headers by which a record itself says where it goes, regardless of the rules. An empty name switches a
// header off. If a record has several of them, the narrowest counts: a connection, then a user, then channels, then
// everybody.
type Overrides struct {
	Topics      []string // Names or patterns of the topics whose records may use the headers. Empty means all topics.
	Channels    string   // The header with a comma-separated list of channels. A record may have several.
	Client      string   // The header with a client id, which a connection gets in the reply to its connect command.
	User        string   // The header with a user.
	Everybody   string   // The header for all connections: true or 1. False or 0 is as if the header did not exist.
	ChannelsMax int      // How many channels one record may name, 1 to ChannelsMaxLimit.
}

// ChannelsMaxLimit is the highest Overrides.ChannelsMax.
const ChannelsMaxLimit = 256

// overrides are compiled Overrides.
type overrides struct {
	topics                            []Pattern
	channels, client, user, everybody string
	channelsMax                       int
}

// check compiles the overrides. It returns nil for nil.
func (o *Overrides) check() (*overrides, []*Fault) {
	if o == nil {
		return nil, nil
	}
	var faults []*Fault
	out := &overrides{channels: o.Channels, client: o.Client, user: o.User, everybody: o.Everybody,
		channelsMax: o.ChannelsMax}
	if o.ChannelsMax < 1 || o.ChannelsMax > ChannelsMaxLimit {
		faults = append(faults, &Fault{Key: "overrides.channels_max", Value: strconv.Itoa(o.ChannelsMax),
			Problem: fmt.Sprintf("it must be from 1 to %d", ChannelsMaxLimit)})
	}
	seen := make(map[string]string)
	for _, h := range [][2]string{{"channels", o.Channels}, {"client", o.Client}, {"user", o.User},
		{"broadcast", o.Everybody}} {
		key, name := "overrides."+h[0], h[1]
		switch {
		case name == "":
			continue
		case len(name) > nameBytesMax || !utf8.ValidString(name):
			faults = append(faults, &Fault{Key: key, Value: name, Problem: "not a header's name",
				Remedy: fmt.Sprintf("write at most %d bytes of UTF-8", nameBytesMax)})
		case seen[name] != "":
			faults = append(faults, &Fault{Key: key, Value: name, Problem: "the header is also that of " + seen[name],
				Remedy: "name another one"})
		}
		seen[name] = key
	}
	if len(seen) == 0 {
		faults = append(faults, &Fault{Key: "overrides",
			Problem: "overrides are enabled, but every header is switched off",
			Remedy:  "name a header, or set overrides.enabled to false"})
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

// covers reports whether records of the topic may use the headers.
func (o *overrides) covers(topic string) bool {
	for i := range o.topics {
		if o.topics[i].MatchString(topic) {
			return true
		}
	}
	return len(o.topics) == 0
}

// place decides by the record's headers. It returns false if they leave the decision to the rules. A header with an
// impossible target does not leave it to the rules: what was meant for one user must not go where a rule sends it.
func (o *overrides) place(dst *Placement, rec *Record) bool {
	if len(rec.Headers) <= 1 { // The number 0.
		return false
	}
	if value, exists := rec.Headers.find(o.client); exists {
		id, ok := routing.ParseClientID(value)
		if !ok {
			return dst.badHeader(UnplacedHeader)
		}
		dst.To, dst.Client = ToConnection, id
		return true
	}
	if value, exists := rec.Headers.find(o.user); exists {
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
	value, exists := rec.Headers.find(o.everybody)
	switch {
	case !exists, string(value) == "false", string(value) == "0":
		return false
	case string(value) == "true", string(value) == "1":
		dst.To = ToEverybody
		return true
	}
	return dst.badHeader(UnplacedHeader)
}

// find is Find for a header that may be switched off.
func (h Headers) find(name string) (value []byte, exists bool) {
	if name == "" {
		return nil, false
	}
	return h.Find(name)
}

// badHeader notes why the headers cannot place the record.
func (p *Placement) badHeader(why Unplaced) bool {
	p.To, p.Why, p.Channels = ToNobody, why, p.Channels[:0]
	return true
}

// placeChannels decides by the headers that list channels. It returns false if there are none.
func (o *overrides) placeChannels(dst *Placement, rec *Record) (decided bool) {
	n, b, ok := kafka.Varint(rec.Headers)
	// The names are copied into the scratch one after the other. It must not move while names point into it.
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
			start := len(dst.names)
			dst.names = append(dst.names, channel...)
			dst.Channels = append(dst.Channels, dst.names[start:])
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

// grow makes room for n more bytes of names. Existing names keep their old memory.
func (p *Placement) grow(n int) {
	if len(p.names)+n > cap(p.names) {
		p.names = make([]byte, 0, max(2*cap(p.names), n))
	}
}
