// Package explain says where the rules of a configuration put a record, and why, for `wsd config test-route` and the page.
package explain

import (
	"fmt"
	"io"
	"strings"

	"wsd/internal/config"
	"wsd/internal/route"
)

// Placed is where a record goes.
type Placed struct {
	To       string   `json:"to"`                 // Kind of target: channels, connection, user, everybody, drop, nobody or stop.
	By       string   `json:"by"`                 // What decided: rule, the name of a header, or none.
	Channels []string `json:"channels,omitempty"` // Channels the record goes to.
	Client   string   `json:"client,omitempty"`   // Id of the client whose connection the record goes to.
	User     string   `json:"user,omitempty"`     // User the record goes to.
	Rule     *int     `json:"rule,omitempty"`     // Index in routes of the rule that decided.
	Route    string   `json:"route,omitempty"`    // Text of that rule.
	Reason   string   `json:"reason,omitempty"`   // Why the rule or the header could not place the record.
	OnError  string   `json:"on_error,omitempty"` // What the rule does with a record that it cannot place.
	Note     string   `json:"note,omitempty"`     // A remark for the user.
	Unplaced bool     `json:"-"`                  // It has no place, and no rule drops it.
}

// Record is a record to place.
type Record struct {
	Topic     string      `json:"topic"`
	Partition int32       `json:"partition"`
	Key       *string     `json:"key"`     // Nil: none.
	Value     *string     `json:"value"`   // Nil: a Kafka null.
	Headers   [][2]string `json:"headers"` // Name and value of each.
}

// Place says where the record goes by the rules of cfg. The error says what is wrong with the record, or with the
// rules.
func Place(cfg *config.Config, r Record) (Placed, error) {
	if topic, err := route.ParseTopic(r.Topic); err != nil || !topic.Exact() {
		return Placed{}, fmt.Errorf("topic %q is not a topic name", r.Topic)
	}
	if r.Partition < 0 {
		return Placed{}, fmt.Errorf("partition %d must be at least 0", r.Partition)
	}
	table, err := route.New(cfg.Rules(), cfg.RouteOverrides())
	if err != nil {
		return Placed{}, err
	}
	rec := &route.Record{Headers: route.AppendHeaders(nil, r.Headers...)}
	if r.Key != nil {
		rec.Key = []byte(*r.Key)
	}
	if r.Value != nil {
		rec.Value = []byte(*r.Value)
	}
	var p route.Placement
	table.Topic(r.Topic).Place(&p, r.Partition, rec)
	out := describe(cfg, &p)
	out.Unplaced = p.To == route.ToNobody || p.To == route.ToStop
	if !reads(cfg, r.Topic) {
		out.Note = "wsd does not read this topic, because kafka.topics does not contain it"
	}
	return out, nil
}

// reads reports whether kafka.topics contains a topic.
func reads(cfg *config.Config, topic string) bool {
	for _, t := range cfg.Kafka.Topics {
		if p, err := route.ParseTopic(t); err == nil && p.FindsTopic(topic) {
			return true
		}
	}
	return false
}

func describe(cfg *config.Config, p *route.Placement) Placed {
	out := Placed{By: p.By().String()}
	if p.Rule >= 0 {
		out.Rule = &p.Rule
		out.Route = "{topic}"
		var onError route.OnError
		if len(cfg.Routes) > 0 {
			out.Route, onError = cfg.Routes[p.Rule].String(), cfg.Routes[p.Rule].OnError
		}
		if p.Why != route.Placed {
			out.OnError = [...]string{route.ErrorSkip: "skip", route.ErrorChannel: "channel " + onError.Channel,
				route.ErrorStop: "stop"}[onError.Action]
		}
	}
	if p.Why != route.Placed {
		out.Reason = p.Why.String()
	}
	switch p.To {
	case route.ToChannels:
		out.To = "channels"
		for _, name := range p.Channels {
			out.Channels = append(out.Channels, string(name))
		}
	case route.ToConnection:
		out.To, out.Client = "connection", string(p.Client.Append(nil))
	case route.ToUser:
		out.To, out.User = "user", string(p.User)
	case route.ToEverybody:
		out.To = "everybody"
	case route.ToDrop:
		out.To = "drop"
	case route.ToStop:
		out.To = "stop"
	case route.ToNobody:
		out.To = "nobody"
		if p.Rule < 0 {
			out.By = "none"
		}
		if p.Rule < 0 && p.Why != route.UnplacedNoRoute {
			out.By = "header"
		}
	}
	return out
}

// reasons explains why a record cannot be placed.
var reasons = map[string]string{
	"no_route":   "no rule matches the record",
	"missing":    "a part of the channel name is missing, empty, or not a text, number or boolean",
	"not_utf8":   "a part of the channel name is not UTF-8",
	"too_long":   fmt.Sprintf("the channel name would be longer than %d bytes", route.ChannelBytesMax),
	"bad_header": "a header that overrides the rules has a value that is not a valid target",
}

// headers describes what decided if it was not a rule.
var headers = map[string]string{
	"channels": "the header for channels", "connection": "the header for a connection", "user": "the header for a user",
	"everybody": "the header for everybody",
	"header":    "a header",
}

// Print writes the placement for people to read.
func (p *Placed) Print(w io.Writer) error {
	var b strings.Builder
	switch p.To {
	case "channels":
		for _, name := range p.Channels {
			fmt.Fprintf(&b, "channel %s\n", name)
		}
	case "connection":
		fmt.Fprintf(&b, "connection %s, if the wsd that reads the record has it\n", p.Client)
	case "user":
		fmt.Fprintf(&b, "user %s\n", p.User)
	case "everybody":
		b.WriteString("everybody\n")
	case "drop":
		b.WriteString("nowhere: the rule drops the record\n")
	case "stop":
		b.WriteString("nowhere: reading its partition stops at this record\n")
	default:
		b.WriteString("nowhere: the record is skipped and counted\n")
	}
	if p.Rule != nil {
		fmt.Fprintf(&b, "by      routes[%d]: %s\n", *p.Rule, p.Route)
	} else if by := headers[p.By]; by != "" {
		fmt.Fprintf(&b, "by      %s\n", by)
	}
	if p.Reason != "" {
		fmt.Fprintf(&b, "reason  %s: %s\n", p.Reason, reasons[p.Reason])
	}
	if p.OnError != "" {
		fmt.Fprintf(&b, "error   on_error: %s\n", p.OnError)
	}
	if p.Note != "" {
		fmt.Fprintf(&b, "note    %s\n", p.Note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
