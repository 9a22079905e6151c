package source

import (
	"fmt"
	"strconv"

	"wsd/internal/bus"
	"wsd/internal/kafka"
	"wsd/internal/route"
	"wsd/internal/routing"
)

// stopError: a rule stops its partition at a record that it cannot place.
type stopError struct {
	offset int64
	rule   int
	why    route.Unplaced
}

// stopRemedy is what to do about a stopped partition.
const stopRemedy = "skip the record with `wsd kafka skip`, or correct the rule and restart wsd"

func (e *stopError) Error() string {
	return fmt.Sprintf("stopped at offset %d: routes[%d] cannot place that record (%v) and has on_error: stop; %s",
		e.offset, e.rule, e.why, stopRemedy)
}

// stopLocked stops reading a partition until the process is restarted, or an operator skips the record.
func (s *Source) stopLocked(p *partition, e *stopError) {
	text := e.Error()
	p.stopped.Store(&text)
	p.topic.stats.Unplaced[e.why].Add(1)
	s.notePartition(eventStopped, p, "remedy", stopRemedy, "offset", e.offset, "route", e.rule, "reason", e.why)
}

// placeLocked decides where a record goes. It comes before the partition's position passes the record, because a rule
// may stop there.
func (r *router) placeLocked(p *partition, rec *kafka.Record) error {
	r.placing = rec.Offset + 1
	p.topic.route.Place(&r.to, p.id, &route.Record{Key: rec.Key, Value: rec.Value, Headers: rec.Headers})
	r.placing = 0
	if r.to.To == route.ToStop {
		return &stopError{offset: rec.Offset, rule: r.to.Rule, why: r.to.Why}
	}
	return nil
}

// recordLocked puts one record on the bus if somebody wants it. If the partition has no fixed channel, r.to says where
// the record goes.
func (r *router) recordLocked(p *partition, rec *kafka.Record) error {
	r.counts.records++
	r.counts.bytes += uint64(len(rec.Value))
	if p.channel == nil {
		return r.placedLocked(p, rec)
	}
	ch, ok := r.s.o.Interest.Take(p.channel, uint64(rec.Offset)+1)
	if !ok {
		r.counts.routed[route.ByRule].unwanted++
		return nil
	}
	value := r.value(p, rec.Value, rec.Offset)
	if p.topic.published {
		value.Info = published(rec.Headers)
	}
	return r.putLocked(ch, value, rec, route.ByRule)
}

// placedLocked puts a record where r.to says.
func (r *router) placedLocked(p *partition, rec *kafka.Record) error {
	if r.to.Why != route.Placed {
		r.unplaced(p, r.to.Why, rec.Offset)
	}
	by := r.to.By()
	switch r.to.To {
	case route.ToChannels:
		var value bus.Record
		checked := false // The value is checked once, even if the record goes to several channels.
		for _, name := range r.to.Channels {
			ch, ok := r.s.o.Interest.Take(name, uint64(rec.Offset)+1)
			if !ok {
				r.counts.routed[by].unwanted++
				continue
			}
			if by == route.ByRule {
				r.checkLocked(p, name, rec.Offset)
			}
			if !checked {
				value, checked = r.value(p, rec.Value, rec.Offset), true
				if p.topic.published {
					value.Info = published(rec.Headers)
				}
			}
			if err := r.putLocked(ch, value, rec, by); err != nil {
				return err
			}
		}
	case route.ToConnection, route.ToUser, route.ToEverybody:
		ch, ok := r.receiversLocked()
		if !ok {
			r.counts.routed[by].unwanted++
			return nil
		}
		value := r.value(p, rec.Value, rec.Offset)
		r.countLocked(ch.Shards.Len(), by)
		return r.addedLocked(r.s.builder.AddMessage(ch, value, rec.Time()))
	case route.ToDrop:
		r.counts.dropped++
	case route.ToNobody, route.ToStop:
	}
	return nil
}

// receiversLocked returns the id under which the bus carries the message that r.to describes, and the shards that want
// it.
func (r *router) receiversLocked() (ch routing.Channel, ok bool) {
	switch r.to.To {
	case route.ToConnection:
		id, ours := r.s.o.ClientIDs.Conn(r.to.Client)
		// Otherwise the connection belongs to another process, maybe one that has ended.
		if !ours || int(id.Shard()) >= r.s.o.Shards {
			return ch, false
		}
		ch.ID = routing.ConnChannel(id)
		ch.Shards.Add(id.Shard())
		return ch, true
	case route.ToUser:
		r.name = routing.AppendUser(r.name[:0], r.to.User)
	default:
		r.name = append(r.name[:0], routing.Everybody...)
	}
	return r.s.o.Interest.Lookup(r.name)
}

// putLocked puts a record on the bus for a channel's subscribers.
func (r *router) putLocked(ch routing.Channel, value bus.Record, rec *kafka.Record, by route.By) error {
	r.countLocked(ch.Shards.Len(), by)
	if r.s.o.Keys {
		return r.addedLocked(r.s.builder.AddKeyed(ch, value, rec.Key, rec.Time()))
	}
	return r.addedLocked(r.s.builder.Add(ch, value, rec.Time()))
}

// countLocked counts a record that goes on the bus for the given number of shards.
func (r *router) countLocked(shards int, by route.By) {
	if shards >= r.s.o.Shards {
		r.counts.routed[by].broadcast++
	} else {
		r.counts.routed[by].targeted++
	}
}

// addedLocked seals the batch if it is full.
func (r *router) addedLocked(full bool) error {
	if full {
		return r.sealLocked()
	}
	return nil
}

// unplaced counts a record that its rule or header cannot place. It logs the first one of each topic and reason, apart
// for those that the channel of a rule's on_error gets.
func (r *router) unplaced(p *partition, why route.Unplaced, offset int64) {
	p.topic.stats.Unplaced[why].Add(1)
	noted, delivered := &p.topic.unplacedNoted, r.to.To == route.ToChannels
	if delivered {
		noted = &p.topic.fallbackNoted
	}
	if noted[why] {
		return
	}
	noted[why] = true
	cause := strconv.Itoa(r.to.Rule) + " " + why.String()
	shared := []any{"route", r.to.Rule, "reason", why}
	if delivered {
		r.s.noteRecord(eventFallback, cause, p, offset, append(shared, "channel", string(r.to.Channels[0])))
		return
	}
	r.s.noteRecord(eventUnplaced, cause, p, offset, append(shared, "delivered_to", "nobody"))
}
