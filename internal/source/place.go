package source

import (
	"fmt"
	"time"

	"wsd/internal/bus"
	"wsd/internal/route"
	"wsd/internal/routing"
)

// stopError: a rule wants its partition to stop at a record that it cannot place.
type stopError struct {
	offset int64
	rule   int
	why    route.Unplaced
}

func (e *stopError) Error() string {
	return fmt.Sprintf("stopped at offset %d: routes[%d] cannot place that record (%v) and has on_error: stop; correct the rule or wait until the record is gone, then restart", e.offset, e.rule, e.why)
}

// stopLocked ends the reading of a partition for this process's life.
func (s *Source) stopLocked(p *partition, e *stopError) {
	text := e.Error()
	p.stopped.Store(&text)
	p.topic.stats.Unplaced[e.why].Add(1)
	s.log.Error("a partition is stopped: its rule cannot place a record and has on_error: stop; correct the rule or wait until the record is gone, then restart",
		"topic", p.topic.name, "partition", p.id, "offset", e.offset, "route", e.rule, "reason", e.why)
}

// placeLocked decides where a record goes, before the partition's position passes it: a rule may want it not to.
func (r *router) placeLocked(p *partition, rec *record, offset int64) error {
	r.placing = offset + 1
	p.topic.route.Place(&r.to, p.id, &route.Record{Key: rec.key, Value: rec.value, Headers: rec.headers})
	r.placing = 0
	if r.to.To == route.ToStop {
		return &stopError{offset: offset, rule: r.to.Rule, why: r.to.Why}
	}
	return nil
}

// item is a record on its way to the bus.
type item struct {
	p       *partition
	bt      *batch
	rec     *record
	offset  int64
	value   bus.Record
	checked bool // value is set.
}

// recordLocked puts one record on the bus if somebody wants it. Where it goes stands in r.to, unless its partition has one channel.
func (r *router) recordLocked(p *partition, bt *batch, rec *record, offset int64) error {
	r.counts.records++
	r.counts.bytes += uint64(len(rec.value))
	it := item{p: p, bt: bt, rec: rec, offset: offset}
	if p.channel != nil {
		return r.channelLocked(&it, p.channel, route.ByRule)
	}
	if r.to.Why != route.Placed {
		r.unplaced(p, r.to.Why, offset)
	}
	by := r.to.By()
	switch r.to.To {
	case route.ToChannels:
		for _, name := range r.to.Channels {
			if err := r.channelLocked(&it, name, by); err != nil {
				return err
			}
		}
	case route.ToConnection:
		id := r.to.Conn
		if r.to.Nonce != r.s.o.Nonce || int(id.Shard()) >= r.s.o.Shards {
			r.counts.routed[by].unwanted++ // Of another process, or of one that is gone.
			return nil
		}
		ch := routing.Channel{ID: routing.ConnChannel(id)}
		ch.Shards.Add(id.Shard())
		return r.messageLocked(&it, ch, by)
	case route.ToUser:
		r.name = routing.AppendUser(r.name[:0], r.to.User)
		return r.lookedUpLocked(&it, by)
	case route.ToEverybody:
		r.name = append(r.name[:0], routing.Everybody...)
		return r.lookedUpLocked(&it, by)
	case route.ToDrop:
		r.counts.dropped++
	case route.ToNobody, route.ToStop:
	}
	return nil
}

// channelLocked gives a record to a channel's subscribers.
func (r *router) channelLocked(it *item, name []byte, by route.By) error {
	ch, ok := r.s.o.Interest.Lookup(name)
	if !ok {
		r.counts.routed[by].unwanted++
		return nil
	}
	value, ts := r.wantedLocked(it, &ch, by), it.bt.timestamp(it.rec)
	var full bool
	if r.s.o.Keys {
		full = r.s.builder.AddKeyed(ch, value, it.rec.key, ts)
	} else {
		full = r.s.builder.Add(ch, value, ts)
	}
	if full {
		return r.sealLocked()
	}
	return nil
}

// lookedUpLocked gives a record to those who are in the interest table as r.name.
func (r *router) lookedUpLocked(it *item, by route.By) error {
	ch, ok := r.s.o.Interest.Lookup(r.name)
	if !ok {
		r.counts.routed[by].unwanted++
		return nil
	}
	return r.messageLocked(it, ch, by)
}

// messageLocked gives a record to connections as a message.
func (r *router) messageLocked(it *item, ch routing.Channel, by route.By) error {
	if r.s.builder.AddMessage(ch, r.wantedLocked(it, &ch, by), it.bt.timestamp(it.rec)) {
		return r.sealLocked()
	}
	return nil
}

// wantedLocked counts a record that somebody wants and returns its value, checked once however many channels it goes to.
func (r *router) wantedLocked(it *item, ch *routing.Channel, by route.By) bus.Record {
	if ch.Shards.Len() >= r.s.o.Shards {
		r.counts.routed[by].broadcast++
	} else {
		r.counts.routed[by].targeted++
	}
	if !it.checked {
		it.checked = true
		it.value = r.value(it.p, it.rec.value, it.offset)
		it.value.Offset = uint64(it.offset) + 1
	}
	if r.open == 0 {
		r.since = time.Now()
	}
	r.open++
	return it.value
}

// unplaced counts a record without a channel, and logs the first of each kind and topic.
func (r *router) unplaced(p *partition, why route.Unplaced, offset int64) {
	ts := p.topic.stats
	ts.Unplaced[why].Add(1)
	if !ts.unplacedNote[why].Swap(true) {
		r.s.log.Warn("a record has no channel to go to; counted from now on", "topic", p.topic.name, "partition", p.id, "offset", offset, "reason", why)
	}
}
