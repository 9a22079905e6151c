package source

import (
	"encoding/base64"
	"slices"
	"strconv"

	"wsd/internal/route"
)

// Stream is one partition under one epoch. If the partition alone feeds a channel, what it holds for the channel is the
// channel's stream. Any goroutine may use it.
type Stream struct {
	p     *partition
	epoch string
}

// Position returns the publication offset (Kafka's plus 1) up to which everything has been routed, and the epoch that
// names the stream. Offsets of one epoch are comparable, also between nodes and after a restart. Position reports false
// before reading has begun.
func (st *Stream) Position() (offset uint64, epoch string, ok bool) {
	for {
		suffix := st.p.epochSuffix.Load()
		next := st.p.routed.Load()
		switch {
		// The log was truncated in the meantime. Offset and epoch must belong to the same log.
		case st.p.epochSuffix.Load() != suffix:
			continue
		case next < 0:
			return 0, "", false
		case suffix != nil:
			return uint64(next), st.epoch + *suffix, true
		}
		return uint64(next), st.epoch, true
	}
}

// streams says which partition feeds a channel, for channels that only one partition feeds. It is replaced as a whole
// when the topology changes.
type streams struct {
	// For channels named by topic and partition alone. Nil if two partitions feed the channel.
	byChannel map[string]*Stream
	// The topics whose records name the channel, by the prefixes of such channels, and the lengths of all prefixes.
	// Topics may be 10,000, and clients decide how often a channel is looked for.
	feeds   map[string][]*feed
	lengths []int
}

// Stream returns the stream of the channel. It reports false if the channel's name and the configuration do not show
// that one single partition feeds the channel. Any goroutine may call it.
func (s *Source) Stream(channel string) (st *Stream, ok bool) {
	return s.streams.Load().find(channel, false)
}

// find returns the stream of the channel. With ignoreStrays it returns the stream that the channel would have if all
// records were in the partition that the partitioner chooses.
func (t *streams) find(channel string, ignoreStrays bool) (found *Stream, ok bool) {
	found, some := t.byChannel[channel]
	if some && found == nil {
		return nil, false
	}
	for _, n := range t.lengths {
		if n > len(channel) {
			break
		}
		for _, f := range t.feeds[channel[:n]] {
			if !f.route.CanFill(channel) {
				continue
			}
			st := f.stream(channel, ignoreStrays)
			if st == nil || found != nil && found != st {
				return nil, false
			}
			found = st
		}
	}
	return found, found != nil
}

// Position returns how far the stream of the channel has been routed, as Stream.Position does. Before the first record
// that is the offset at which reading began, so the next publication always has a higher one. Position reports false if
// the channel has no stream, or before reading has begun there. Any goroutine may call it.
func (s *Source) Position(channel string) (offset uint64, epoch string, ok bool) {
	st, ok := s.Stream(channel)
	if !ok {
		return 0, "", false
	}
	return st.Position()
}

// Settled reports whether the source knows the position of the channel's stream, or that the channel has no stream. Any
// goroutine may call it.
func (s *Source) Settled(channel string) bool {
	if st, ok := s.Stream(channel); ok {
		_, _, known := st.Position()
		return known
	}
	return s.Ready()
}

// buildStreams finds the streams of all channels. A channel that two partitions may feed has none. A topic that does
// not exist yet counts, so that a stream does not become wrong later.
func buildStreams(topics []*topic) *streams {
	out := &streams{byChannel: make(map[string]*Stream), feeds: make(map[string][]*feed)}
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
			f := &feed{t.route, list}
			for _, prefix := range t.route.Prefixes() {
				out.feeds[prefix] = append(out.feeds[prefix], f)
			}
		}
	}
	for prefix := range out.feeds {
		if !slices.Contains(out.lengths, len(prefix)) {
			out.lengths = append(out.lengths, len(prefix))
		}
	}
	slices.Sort(out.lengths)
	return out
}

// streamOf returns the partition's stream in a topic of this many partitions. It is the same stream as long as their
// number is the same.
func (p *partition) streamOf(partitions int) *Stream {
	if epoch := epochOf(p, partitions); p.stream == nil || p.stream.epoch != epoch {
		p.stream = &Stream{p: p, epoch: epoch}
	}
	return p.stream
}

// feed is a topic whose records name the channel.
type feed struct {
	route   *route.Topic
	streams []*Stream
}

// stream returns the only partition that may feed the channel. It returns nil if there are several, or if none is
// known. IgnoreStrays is as in find.
func (f *feed) stream(channel string, ignoreStrays bool) *Stream {
	if len(f.streams) == 1 {
		return f.streams[0]
	}
	var found *Stream
	for _, st := range f.streams {
		if !f.route.CanName(st.p.id, channel) {
			continue
		}
		if found != nil {
			return f.keyed(channel, ignoreStrays)
		}
		found = st
	}
	return found
}

// keyed returns the partition of the only key that the channel's records have. It returns nil if there is no such key,
// or if it is not known where records with the key are.
func (f *feed) keyed(channel string, ignoreStrays bool) *Stream {
	key, by, ok := f.route.Key(channel)
	if !ok || by == route.PartitionerNone || !ignoreStrays && f.streams[0].p.topic.strays.recent() {
		return nil
	}
	id := partitionOf(by, []byte(key), len(f.streams))
	if st := f.streams[id]; int(st.p.id) == id { // Kafka numbers partitions from 0 without a hole.
		return st
	}
	return nil
}

// epochOf returns the name of a stream: the topic's id, the partition, and the number of partitions, since that decides
// where keys go.
func epochOf(p *partition, partitions int) string {
	b := make([]byte, 0, 40)
	b = base64.RawURLEncoding.AppendEncode(b, p.topicID[:])
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(p.id), 10)
	b = append(b, '.')
	return string(strconv.AppendInt(b, int64(partitions), 10))
}
