package source

import (
	"encoding/base64"
	"strconv"
)

// positions says, for channels that one partition alone feeds, which one that is. It is replaced as a whole when the layout changes.
type positions struct {
	byChannel map[string]position
}

type position struct {
	p     *partition
	epoch string
}

// Position returns how far the stream of the channel has been routed: the publication offset (Kafka's + 1) of the last record
// before which everything is decided, and the epoch that names the stream. Before the first record it is the offset at which reading
// began, so that the next publication is always a later one. ok is false when no single partition is known, from the channel's name
// and the configuration, to feed it, or before reading has begun there. Any goroutine may call it.
func (s *Source) Position(channel string) (offset uint64, epoch string, ok bool) {
	at, ok := s.positions.Load().byChannel[channel]
	if !ok {
		return 0, "", false
	}
	for {
		cut := at.p.cut.Load()
		next := at.p.routed.Load()
		switch {
		case at.p.cut.Load() != cut: // The log was truncated meanwhile; offset and epoch must be of one log.
			continue
		case next < 0:
			return 0, "", false
		case cut != nil:
			return uint64(next), at.epoch + *cut, true
		}
		return uint64(next), at.epoch, true
	}
}

// buildPositions maps the channels that are named by topic and partition alone to their partitions. A channel that two partitions
// feed, or that a key or header of another topic could also name, is left out.
func buildPositions(topics []*topic) *positions {
	out := &positions{byChannel: make(map[string]position)}
	shared := make(map[string]bool)
	for _, t := range topics {
		for _, p := range t.parts {
			for _, name := range t.route.Fixed(p.id) {
				if at, ok := out.byChannel[string(name)]; ok && at.p != p {
					shared[string(name)] = true
				}
				out.byChannel[string(name)] = position{p: p, epoch: epochOf(p, len(t.parts))}
			}
		}
	}
	for name := range shared {
		delete(out.byChannel, name)
	}
	// The topic may not exist yet: what it could name then is left out now, so that a position once given stays true.
	for _, t := range topics {
		if !t.route.Open() {
			continue
		}
		for name, at := range out.byChannel {
			if alone := at.p.topic == t && len(t.parts) == 1; !alone && t.route.CanFill(name) {
				delete(out.byChannel, name)
			}
		}
	}
	return out
}

// epochOf names a stream: the topic's id, the partition and the number of partitions, since another number sends keys elsewhere.
// Offsets of one epoch are comparable, also between nodes and after a restart.
func epochOf(p *partition, partitions int) string {
	b := make([]byte, 0, 40)
	b = base64.RawURLEncoding.AppendEncode(b, p.topicID[:])
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(p.id), 10)
	b = append(b, '.')
	return string(strconv.AppendInt(b, int64(partitions), 10))
}
