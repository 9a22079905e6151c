package shard

// subIndex finds the subscriptions of one connection: the index in conn.subs, by the channel's.
type subIndex map[uint32]uint32

// indexedFrom is how many subscriptions a connection may have before it gets an index. To look through so many costs
// about 60 ns, less than the rest of any command; with client.channels_max at its default nobody gets one.
const indexedFrom = 128

// indexIn returns the index in c's subscriptions of a channel, or -1.
func (cs *channels) indexIn(c *conn, channel uint32) int {
	if len(c.subs) > indexedFrom {
		if i, ok := cs.indexed[c.slot][channel]; ok {
			return int(i)
		}
		return -1
	}
	for i := range c.subs {
		if c.subs[i].channel == channel {
			return i
		}
	}
	return -1
}

// indexAdded notes the last of c's subscriptions, which has just been added.
func (cs *channels) indexAdded(c *conn) {
	switch n := len(c.subs); {
	case n <= indexedFrom:
	case n == indexedFrom+1:
		cs.reindex(c)
	default:
		cs.indexed[c.slot][c.subs[n-1].channel] = uint32(n - 1)
	}
}

// reindex makes c's index anew, if it is to have one.
func (cs *channels) reindex(c *conn) {
	if len(c.subs) <= indexedFrom {
		return
	}
	index := make(subIndex, len(c.subs))
	for i := range c.subs {
		index[c.subs[i].channel] = uint32(i)
	}
	cs.indexed[c.slot] = index
}

// indexRemoves notes that subscription i of c is about to be removed, and the last one takes its place.
func (cs *channels) indexRemoves(c *conn, i int) {
	switch n := len(c.subs); {
	case n <= indexedFrom:
	case n == indexedFrom+1:
		delete(cs.indexed, c.slot)
	default:
		index := cs.indexed[c.slot]
		index[c.subs[n-1].channel] = uint32(i)
		delete(index, c.subs[i].channel)
	}
}
