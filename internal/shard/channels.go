package shard

import (
	"strings"

	"wsd/internal/routing"
)

// channel is a channel with at least one subscriber on this shard.
type channel struct {
	id          routing.ChannelID
	name        string
	subscribers []subscriber
	policy      Policy // For subscribers that do not keep up.
	epoch       string // Of the stream whose position the interest table was told.
	recovering  int    // Subscribers whose reply waits for an answer, see Shard.recover.
	joinedSeq   uint64 // Batches up to this sequence may hold records from before some subscription; see subscription.start.

	// See ahead.go.
	servedSeq, heldSeq uint64
	got                uint32 // Bytes of values that it got in turn gotTurn.
	gotTurn            uint32
}

// subscriber is one entry of a channel's list.
type subscriber struct {
	slot uint32 // Of the connection.
	at   uint32 // Index into that connection's subscriptions.
}

// find returns the index of the channel in c's subscriptions, or -1.
func (s *Shard) find(c *conn, name string) int {
	index, ok := s.channelIndex[name]
	if !ok || routing.Reserved(name) { // What a connection gets as its user's is not the client's to leave.
		return -1
	}
	for i := range c.subs {
		if c.subs[i].channel == index {
			return i
		}
	}
	return -1
}

// subscribe adds the channel to c's subscriptions, which must not have it yet, and returns where the channel's stream stands: what
// comes after that offset, and only that, will be delivered.
//
// The order matters: interest first, then the position. The router stores a partition's position before it looks at the interest,
// so a record that it routed without seeing our interest is covered by the position that we read (design.md §3).
func (s *Shard) subscribe(c *conn, name string) (offset uint64, epoch string, known bool) {
	index, ok := s.channelIndex[name]
	if !ok {
		name = strings.Clone(name) // It may be part of a whole request, which need not live as long.
		index = s.takeChannel()
		s.channels[index].servedSeq = s.head() - 1 // What is on the bus before the interest is not for it.
		s.channelIndex[name] = index
		ch := &s.channels[index]
		ch.name, ch.id = name, s.interest.Add(name, s.id, index)
		s.channelByID[ch.id] = index
		if !routing.Reserved(name) { // Messages to a user have no keys: none takes the place of another.
			ch.policy = policyOf(s.slow, name)
			s.stats.Channels.Add(1)
		}
	}
	ch := &s.channels[index]
	offset, epoch, known = s.positions.Position(name)
	if known {
		s.begin(ch, epoch, offset)
	}
	ch.subscribers = append(ch.subscribers, subscriber{slot: c.slot, at: uint32(len(c.subs))})
	c.subs = append(c.subs, subscription{channel: index, at: uint32(len(ch.subscribers) - 1), start: offset})
	if !routing.Reserved(name) {
		s.stats.Subscriptions.Add(1)
	}
	return offset, epoch, known
}

// begin notes that a subscription of the channel begins at the position, which was read after the interest was noted.
func (s *Shard) begin(ch *channel, epoch string, offset uint64) {
	// The batch being filled now may hold records up to that position, later ones only what follows.
	ch.joinedSeq = s.head()
	if ch.epoch == epoch {
		return
	}
	if ch.epoch != "" {
		// Records now come from another partition, perhaps with lower offsets: where earlier subscriptions began says nothing about them.
		for _, sub := range ch.subscribers {
			s.slab.get(sub.slot).subs[sub.at].start = 0
		}
	}
	ch.epoch = epoch
	s.interest.Begin(ch.name, epoch, offset)
}

// unsubscribe removes entry i of c's subscriptions.
func (s *Shard) unsubscribe(c *conn, i int) {
	sub := c.subs[i]
	ch := &s.channels[sub.channel]
	if ch.recovering > 0 {
		if rec := s.recoverings[recoveringKey{c.slot, sub.channel}]; rec != nil {
			s.endRecovering(c, rec)
		}
	}
	if c.merge != nil && ch.policy == PolicyConflate {
		s.dropMergedOf(c, sub.channel)
	}

	last := len(ch.subscribers) - 1
	moved := ch.subscribers[last]
	ch.subscribers[sub.at] = moved
	s.slab.get(moved.slot).subs[moved.at].at = sub.at
	ch.subscribers = ch.subscribers[:last]

	last = len(c.subs) - 1
	if i != last {
		c.subs[i] = c.subs[last]
		s.channels[c.subs[i].channel].subscribers[c.subs[i].at].at = uint32(i)
	}
	c.subs = c.subs[:last]
	if last == 0 {
		c.subs = nil
	}
	if !routing.Reserved(ch.name) {
		s.stats.Subscriptions.Add(-1)
	}

	switch {
	case len(ch.subscribers) == 0:
		s.dropChannel(sub.channel)
	case cap(ch.subscribers) > 64 && len(ch.subscribers) < cap(ch.subscribers)/4:
		// A channel that was once popular does not keep the memory of it.
		ch.subscribers = append(make([]subscriber, 0, cap(ch.subscribers)/2), ch.subscribers...)
	}
}

func (s *Shard) unsubscribeAll(c *conn) {
	for len(c.subs) > 0 {
		s.unsubscribe(c, len(c.subs)-1)
	}
}

func (s *Shard) takeChannel() uint32 {
	if n := len(s.freeChannels); n > 0 {
		index := s.freeChannels[n-1]
		s.freeChannels = s.freeChannels[:n-1]
		return index
	}
	s.channels = append(s.channels, channel{})
	return uint32(len(s.channels) - 1)
}

func (s *Shard) dropChannel(index uint32) {
	ch := &s.channels[index]
	s.interest.Remove(ch.name, s.id)
	delete(s.channelIndex, ch.name)
	delete(s.channelByID, ch.id)
	if !routing.Reserved(ch.name) {
		s.stats.Channels.Add(-1)
	}
	*ch = channel{}
	s.freeChannels = append(s.freeChannels, index)
}
