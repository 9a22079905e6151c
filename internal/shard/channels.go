package shard

import (
	"hash/maphash"
	"math"
	"slices"
	"strings"

	"wsd/internal/bus"
	"wsd/internal/routing"
	"wsd/internal/shrink"
)

// channels are those with at least one subscriber on this shard.
type channels struct {
	opts       *Options
	slab       *slab
	stats      *Stats
	sender     *sender
	recoveries *recoveries
	identities *identities
	alone      func(*conn) // Called when a connection has lost its last subscription; may be nil.

	list      []channel // Stable while the channel has subscribers; free entries are empty.
	slots     slots     // Of list.
	byName    *shrink.Table[string, uint32]
	byID      *shrink.Table[routing.ChannelID, uint32]
	everybody routing.ChannelID   // Of routing.Everybody while there are clients; else 0.
	indexed   map[uint32]subIndex // By slot, of the connections with more than indexedFrom subscriptions.
	walking   uint32              // One more than the index of the channel whose subscribers are walked; 0: none.
}

func newChannels(o *Options, conns *slab, st *Stats) channels {
	seed := maphash.MakeSeed()
	return channels{
		opts: o, slab: conns, stats: st,
		byName:  shrink.NewTable[string, uint32](func(name string) uint64 { return maphash.String(seed, name) }),
		byID:    shrink.NewTable[routing.ChannelID, uint32](func(id routing.ChannelID) uint64 { return uint64(id) }),
		indexed: make(map[uint32]subIndex),
	}
}

// channel is a channel with at least one subscriber on this shard.
type channel struct {
	id          routing.ChannelID
	name        string
	subscribers []subscriber
	policy      Policy // For subscribers that do not keep up.
	epoch       string // Of the stream whose position the interest table was given.
	recovering  int    // Subscribers whose reply waits for what they missed, see recover.go.
	joinedSeq   uint64 // Batches up to this one may hold records from before some subscription; see subscription.start.
	records     uint64 // That came since it has had subscribers, for surveys,
	deliveries  uint64 // and times the subscribers that there were.

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
		cs.byID.Delete(cs.everybody)
	} else {
		cs.byID.Set(id, toEverybody)
	}
	cs.everybody = id
}

// take returns the index of an empty entry.
func (cs *channels) take() uint32 {
	index := cs.slots.take()
	if index == uint32(len(cs.list)) {
		cs.list = append(cs.list, channel{})
	}
	return index
}

// shrink gives back the memory of channels that have gone, at the end of a turn.
func (cs *channels) shrink() {
	end := int(cs.slots.trim())
	clear(cs.list[end:])
	if cs.list = cs.list[:end]; cap(cs.list) > 1024 && end < cap(cs.list)/4 {
		cs.list = append(make([]channel, 0, 2*end), cs.list...)
	}
	if cap(cs.slots.used) > 1024 && len(cs.slots.used) < cap(cs.slots.used)/4 {
		cs.slots.used = slices.Clone(cs.slots.used)
	}
}

// find returns the index of the channel in c's subscriptions, or -1.
func (cs *channels) find(c *conn, name string) int {
	index, ok := cs.byName.Get(name)
	if !ok || routing.Reserved(name) { // What a connection gets as its user's is not the client's to leave.
		return -1
	}
	return cs.indexIn(c, index)
}

// subscribe adds the channel to c's subscriptions, which must not have it yet, and returns where the channel's stream
// stands: what comes after that offset, and only that, will be delivered.
//
// The order matters: interest first, then the position. The router stores a partition's position before it looks up
// the interest, so a record that it routed without seeing our interest is covered by the position that we read
// (invariant 2).
func (cs *channels) subscribe(c *conn, name string) (offset uint64, epoch string, known bool) {
	index, ok := cs.byName.Get(name)
	if !ok {
		index = cs.add(strings.Clone(name)) // It may be part of a whole request, which need not live as long.
	}
	ch := &cs.list[index]
	offset, epoch, known = cs.opts.Positions.Position(name)
	if known {
		cs.begin(ch, epoch, offset)
	}
	ch.subscribers = append(ch.subscribers, subscriber{slot: c.slot, sub: uint32(len(c.subs))})
	c.subs = append(c.subs, subscription{channel: index, subscriber: uint32(len(ch.subscribers) - 1), start: offset})
	cs.indexAdded(c)
	if !routing.Reserved(name) {
		cs.stats.Subscriptions.Add(1)
	}
	return offset, epoch, known
}

// add makes an entry for a channel that gets its first subscriber, and enters the shard into the interest table.
func (cs *channels) add(name string) (index uint32) {
	index = cs.take()
	ch := &cs.list[index]
	ch.ahead.servedSeq = cs.opts.Head() - 1 // What is on the bus before the interest is not for it.
	cs.byName.Set(name, index)
	ch.name, ch.id = name, cs.opts.Interest.Add(name, cs.opts.ID, index)
	cs.byID.Set(ch.id, index)
	if !routing.Reserved(name) { // Messages to a user have no keys: none replaces another.
		ch.policy = policyOf(cs.opts.Slow, name)
		cs.stats.Channels.Add(1)
	}
	return index
}

// drop removes a channel that has lost its last subscriber.
func (cs *channels) drop(index uint32) {
	ch := &cs.list[index]
	cs.opts.Interest.Remove(ch.name, cs.opts.ID)
	cs.byName.Delete(ch.name)
	cs.byID.Delete(ch.id)
	if !routing.Reserved(ch.name) {
		cs.stats.Channels.Add(-1)
	}
	*ch = channel{}
	cs.slots.free(index)
}

// settled reports whether the position of the channel's stream is known, or that it has none.
func (cs *channels) settled(channel string) bool {
	_, _, known := cs.opts.Positions.Position(channel)
	return known || cs.opts.Positions.Settled(channel)
}

// begin notes that a subscription of the channel begins at the position, which was read after the interest was noted.
func (cs *channels) begin(ch *channel, epoch string, offset uint64) {
	// The batch being filled now may hold records up to that position, later ones only what follows.
	ch.joinedSeq = cs.opts.Head()
	if ch.epoch == epoch {
		return
	}
	if ch.epoch != "" {
		// Records now come from another partition, perhaps with lower offsets: where earlier subscriptions began says
		// nothing about them.
		for _, sub := range ch.subscribers {
			cs.slab.get(sub.slot).subs[sub.sub].start = 0
		}
	}
	ch.epoch = epoch
	cs.opts.Interest.Begin(ch.name, epoch, offset)
}

// swap exchanges two of c's subscriptions.
func (cs *channels) swap(c *conn, i, j int) {
	c.subs[i], c.subs[j] = c.subs[j], c.subs[i]
	for _, at := range [...]int{i, j} {
		sub := &c.subs[at]
		cs.list[sub.channel].subscribers[sub.subscriber].sub = uint32(at)
		if len(c.subs) > indexedFrom {
			cs.indexed[c.slot][sub.channel] = uint32(at)
		}
	}
}

// remove removes entry i of c's subscriptions.
func (cs *channels) remove(c *conn, i int) {
	sub := c.subs[i]
	ch := &cs.list[sub.channel]
	if cs.walking == sub.channel+1 { // Invariant 8.
		panic("BUG: a subscriber leaves a channel while its subscribers are walked")
	}
	last := len(ch.subscribers) - 1
	moved := ch.subscribers[last]
	ch.subscribers[sub.subscriber] = moved
	cs.slab.get(moved.slot).subs[moved.sub].subscriber = sub.subscriber
	ch.subscribers = ch.subscribers[:last]

	cs.indexRemoves(c, i)
	last = len(c.subs) - 1
	if i != last {
		c.subs[i] = c.subs[last]
		cs.list[c.subs[i].channel].subscribers[c.subs[i].subscriber].sub = uint32(i)
	}
	c.subs = c.subs[:last]
	switch {
	case last == 0:
		c.subs = nil
	case cap(c.subs) > 64 && last < cap(c.subs)/4:
		c.subs = append(make([]subscription, 0, cap(c.subs)/2), c.subs...)
		cs.reindex(c)
	}
	if !routing.Reserved(ch.name) {
		cs.stats.Subscriptions.Add(-1)
	}
	if c.known&knownIdentity != 0 {
		cs.identities.left(c, sub.channel)
	}
	if cs.alone != nil && last == c.firstChannel() {
		cs.alone(c)
	}

	switch {
	case len(ch.subscribers) == 0:
		cs.drop(sub.channel)
	case cap(ch.subscribers) > 64 && len(ch.subscribers) < cap(ch.subscribers)/4:
		// A channel that was once popular does not keep the memory of it.
		ch.subscribers = append(make([]subscriber, 0, cap(ch.subscribers)/2), ch.subscribers...)
	}
}

// indexOf returns the index of the segment's channel if it has a subscriber here, or what stands in its place for
// messages.
func (cs *channels) indexOf(segment *bus.Segment) (index uint32, ok bool) {
	if !segment.Shards.Has(cs.opts.ID) {
		return 0, false
	}
	if _, is := segment.Channel.Conn(); is {
		return toConnection, true
	}
	// Mostly one shard has the channel, and the interest table said where: for a channel that is seldom used, a look
	// into the map costs more than the rest of the delivery.
	if hint := segment.SlotHint; hint < uint32(len(cs.list)) && cs.list[hint].id == segment.Channel {
		return hint, true
	}
	index, ok = cs.byID.Get(segment.Channel)
	return index, ok
}

// anyBlocked reports whether a subscriber of the channel is blocked.
func (cs *channels) anyBlocked(ch *channel) bool {
	for i := range ch.subscribers {
		if cs.slab.get(ch.subscribers[i].slot).out.blocked {
			return true
		}
	}
	return false
}

// unsubscribe ends subscription i of c. What was merged of the channel goes with it, unless keepMerged.
func (cs *channels) unsubscribe(c *conn, i int, keepMerged bool) {
	channel := c.subs[i].channel
	if cs.list[channel].recovering > 0 {
		cs.recoveries.end(c, channel)
	}
	if keepMerged || cs.list[channel].policy == PolicyConflate {
		cs.sender.leaveChannel(&c.out, channel, keepMerged)
	}
	cs.remove(c, i)
}

func (cs *channels) unsubscribeAll(c *conn) {
	for len(c.subs) > 0 {
		cs.unsubscribe(c, len(c.subs)-1, false)
	}
}
