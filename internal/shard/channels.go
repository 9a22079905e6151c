package shard

import (
	"math"
	"strings"

	"wsd/internal/routing"
)

// channels are those with at least one subscriber on this shard.
type channels struct {
	list      []channel // Stable while the channel has subscribers; free entries are empty.
	free      []uint32
	byName    map[string]uint32
	byID      map[routing.ChannelID]uint32
	everybody routing.ChannelID // Of routing.Everybody while there are clients; else 0.
}

func newChannels() channels {
	return channels{byName: make(map[string]uint32), byID: make(map[routing.ChannelID]uint32)}
}

// channel is a channel with at least one subscriber on this shard.
type channel struct {
	id          routing.ChannelID
	name        string
	subscribers []subscriber
	policy      Policy // For subscribers that do not keep up.
	epoch       string // Of the stream whose position the interest table was given.
	recovering  int    // Subscribers whose reply waits for what they missed, see recover.go.
	joinedSeq   uint64 // Batches up to this sequence may hold records from before some subscription; see subscription.start.

	ahead aheadState
}

// subscriber is one entry of a channel's list.
type subscriber struct {
	slot uint32 // Of the connection.
	sub  uint32 // Index into that connection's subscriptions.
}

// What stands in place of a channel's index for messages that no subscription asked for.
const (
	toEverybody  = math.MaxUint32 - iota // To all clients of the shard.
	toConnection                         // To the connection that the segment's ChannelID stands for.
)

// setEverybody sets the id under which messages for everybody come; 0: none do.
func (cs *channels) setEverybody(id routing.ChannelID) {
	if id == 0 {
		delete(cs.byID, cs.everybody)
	} else {
		cs.byID[id] = toEverybody
	}
	cs.everybody = id
}

// take returns the index of an empty entry.
func (cs *channels) take() uint32 {
	if n := len(cs.free); n > 0 {
		index := cs.free[n-1]
		cs.free = cs.free[:n-1]
		return index
	}
	cs.list = append(cs.list, channel{})
	return uint32(len(cs.list) - 1)
}

// find returns the index of the channel in c's subscriptions, or -1.
func (s *Shard) find(c *conn, name string) int {
	index, ok := s.channels.byName[name]
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

// subscribe adds the channel to c's subscriptions, which must not have it yet, and returns where the channel's stream
// stands: what comes after that offset, and only that, will be delivered.
//
// The order matters: interest first, then the position. The router stores a partition's position before it looks up the
// interest, so a record that it routed without seeing our interest is covered by the position that we read (invariant 2).
func (s *Shard) subscribe(c *conn, name string) (offset uint64, epoch string, known bool) {
	index, ok := s.channels.byName[name]
	if !ok {
		index = s.addChannel(strings.Clone(name)) // It may be part of a whole request, which need not live as long.
	}
	ch := &s.channels.list[index]
	offset, epoch, known = s.opts.Positions.Position(name)
	if known {
		s.begin(ch, epoch, offset)
	}
	ch.subscribers = append(ch.subscribers, subscriber{slot: c.slot, sub: uint32(len(c.subs))})
	c.subs = append(c.subs, subscription{channel: index, subscriber: uint32(len(ch.subscribers) - 1), start: offset})
	if !routing.Reserved(name) {
		s.stats.Subscriptions.Add(1)
	}
	return offset, epoch, known
}

// addChannel makes an entry for a channel that gets its first subscriber, and enters the shard into the interest table.
func (s *Shard) addChannel(name string) (index uint32) {
	index = s.channels.take()
	ch := &s.channels.list[index]
	ch.ahead.servedSeq = s.opts.Head() - 1 // What is on the bus before the interest is not for it.
	s.channels.byName[name] = index
	ch.name, ch.id = name, s.opts.Interest.Add(name, s.opts.ID, index)
	s.channels.byID[ch.id] = index
	if !routing.Reserved(name) { // Messages to a user have no keys: none replaces another.
		ch.policy = policyOf(s.opts.Slow, name)
		s.stats.Channels.Add(1)
	}
	return index
}

// dropChannel removes a channel that has lost its last subscriber.
func (s *Shard) dropChannel(index uint32) {
	ch := &s.channels.list[index]
	s.opts.Interest.Remove(ch.name, s.opts.ID)
	delete(s.channels.byName, ch.name)
	delete(s.channels.byID, ch.id)
	if !routing.Reserved(ch.name) {
		s.stats.Channels.Add(-1)
	}
	*ch = channel{}
	s.channels.free = append(s.channels.free, index)
}

// begin notes that a subscription of the channel begins at the position, which was read after the interest was noted.
func (s *Shard) begin(ch *channel, epoch string, offset uint64) {
	// The batch being filled now may hold records up to that position, later ones only what follows.
	ch.joinedSeq = s.opts.Head()
	if ch.epoch == epoch {
		return
	}
	if ch.epoch != "" {
		// Records now come from another partition, perhaps with lower offsets: where earlier subscriptions began says
		// nothing about them.
		for _, sub := range ch.subscribers {
			s.slab.get(sub.slot).subs[sub.sub].start = 0
		}
	}
	ch.epoch = epoch
	s.opts.Interest.Begin(ch.name, epoch, offset)
}

// unsubscribe removes entry i of c's subscriptions. What was merged of the channel goes with it, unless keepMerged.
func (s *Shard) unsubscribe(c *conn, i int, keepMerged bool) {
	sub := c.subs[i]
	ch := &s.channels.list[sub.channel]
	if ch.recovering > 0 {
		s.endRecoveryOf(c, sub.channel)
	}
	s.sender.leaveChannel(&c.out, sub.channel, keepMerged)

	last := len(ch.subscribers) - 1
	moved := ch.subscribers[last]
	ch.subscribers[sub.subscriber] = moved
	s.slab.get(moved.slot).subs[moved.sub].subscriber = sub.subscriber
	ch.subscribers = ch.subscribers[:last]

	last = len(c.subs) - 1
	if i != last {
		c.subs[i] = c.subs[last]
		s.channels.list[c.subs[i].channel].subscribers[c.subs[i].subscriber].sub = uint32(i)
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
		s.unsubscribe(c, len(c.subs)-1, false)
	}
}
