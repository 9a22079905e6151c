package source

import (
	"encoding/base64"
	"strconv"

	"wsd/internal/route"
)

// Stream is one partition under one epoch: what it holds for a channel that it alone feeds is the channel's stream. Any goroutine.
type Stream struct {
	p     *partition
	epoch string
}

// Position returns the publication offset (Kafka's + 1) up to which everything is routed, and the epoch that names the stream: offsets of
// one epoch are comparable, also between nodes and after a restart. ok is false before reading has begun.
func (st *Stream) Position() (offset uint64, epoch string, ok bool) {
	for {
		cut := st.p.cut.Load()
		next := st.p.routed.Load()
		switch {
		case st.p.cut.Load() != cut: // The log was truncated meanwhile; offset and epoch must be of one log.
			continue
		case next < 0:
			return 0, "", false
		case cut != nil:
			return uint64(next), st.epoch + *cut, true
		}
		return uint64(next), st.epoch, true
	}
}

// streams says, for channels that one partition alone feeds, which one that is. It is replaced as a whole when the layout changes.
type streams struct {
	byChannel map[string]*Stream // Named by topic and partition alone; nil: two partitions feed it.
	feeds     []feed             // Topics that put records into channels by what these hold.
}

// Stream returns the stream of the channel. ok is false when no single partition is known, from the channel's name and the
// configuration, to feed it. Any goroutine.
func (s *Source) Stream(channel string) (st *Stream, ok bool) {
	return s.streams.Load().find(channel, false)
}

// find returns the stream of the channel: with told the one that it would have if records lay where the partitioner says.
func (t *streams) find(channel string, told bool) (found *Stream, ok bool) {
	found, some := t.byChannel[channel]
	if some && found == nil {
		return nil, false
	}
	for i := range t.feeds {
		f := &t.feeds[i]
		if !f.route.CanFill(channel) {
			continue
		}
		st := f.stream(channel, told)
		if st == nil || found != nil && found != st {
			return nil, false
		}
		found = st
	}
	return found, found != nil
}

// Position returns how far the stream of the channel has been routed: the publication offset (Kafka's + 1) of the last record
// before which everything is decided, and the epoch that names the stream. Before the first record it is the offset at which reading
// began, so that the next publication is always a later one. ok is false when the channel has no stream, or before reading has begun
// there. Any goroutine may call it.
func (s *Source) Position(channel string) (offset uint64, epoch string, ok bool) {
	st, ok := s.Stream(channel)
	if !ok {
		return 0, "", false
	}
	return st.Position()
}

// Settled reports whether it is known where the channel's stream stands, or that it has none: the cluster has been seen and reading has begun.
// Any goroutine.
func (s *Source) Settled(channel string) bool {
	if st, ok := s.Stream(channel); ok {
		_, _, known := st.Position()
		return known
	}
	return s.Ready()
}

// buildStreams finds the streams of all channels. A channel that two partitions may feed has none; a topic that does not exist yet
// counts, so that a stream once given stays true.
func buildStreams(topics []*topic) *streams {
	out := &streams{byChannel: make(map[string]*Stream)}
	for _, t := range topics {
		list := make([]*Stream, len(t.parts))
		for i, p := range t.parts {
			list[i] = p.streamOf(len(t.parts))
			for _, name := range t.route.Fixed(p.id) {
				if st, some := out.byChannel[string(name)]; some && st != list[i] {
					out.byChannel[string(name)] = nil
					continue
				}
				out.byChannel[string(name)] = list[i]
			}
		}
		if t.route.Open() {
			out.feeds = append(out.feeds, feed{t.route, list})
		}
	}
	return out
}

// streamOf returns the partition's stream as one of so many partitions, the same one as long as their number is the same.
func (p *partition) streamOf(partitions int) *Stream {
	if epoch := epochOf(p, partitions); p.stream == nil || p.stream.epoch != epoch {
		p.stream = &Stream{p: p, epoch: epoch}
	}
	return p.stream
}

// feed is a topic that puts records into channels which it does not name alone.
type feed struct {
	route   *route.Topic
	streams []*Stream
}

// stream returns the only partition that may put a record into the channel, nil when there are several, or none is known; told is as in find.
func (f *feed) stream(channel string, told bool) *Stream {
	if len(f.streams) == 1 {
		return f.streams[0]
	}
	var found *Stream
	for _, st := range f.streams {
		if !f.route.CanName(st.p.id, channel) {
			continue
		}
		if found != nil {
			return f.keyed(channel, told)
		}
		found = st
	}
	return found
}

// keyed returns the partition of the only key that records of the channel have, nil when there is none, or it is not known where its
// records go.
func (f *feed) keyed(channel string, told bool) *Stream {
	key, by, ok := f.route.Key(channel)
	if !ok || by == route.PartitionerNone || !told && f.streams[0].p.topic.strays.recent() {
		return nil
	}
	id := partitionOf(by, []byte(key), len(f.streams))
	if st := f.streams[id]; int(st.p.id) == id { // They count from 0 without a hole, as Kafka has them.
		return st
	}
	return nil
}

// epochOf names a stream: the topic's id, the partition and the number of partitions, since another number sends keys elsewhere.
func epochOf(p *partition, partitions int) string {
	b := make([]byte, 0, 40)
	b = base64.RawURLEncoding.AppendEncode(b, p.topicID[:])
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(p.id), 10)
	b = append(b, '.')
	return string(strconv.AppendInt(b, int64(partitions), 10))
}
