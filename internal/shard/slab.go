package shard

// Slots of the slab come in blocks, so that a connection never moves. A block is one word of slots.
const (
	blockBits  = 6 // 10 KiB: small against many shards that have few connections each.
	blockSlots = 1 << blockBits
	slotsMax   = 1 << 24 // A routing.ConnID has 24 bits for the slot.
)

// slab holds the connections of a shard by slot. After a peak it gives empty blocks back, but for a quarter as many as
// are in use: connections come and go.
type slab struct {
	blocks []*[blockSlots]conn // Nil: given back.
	slots  slots

	rest  []blockRest // By block.
	empty []uint32    // Blocks that were empty once, each listed once; some are in use again.
	made  int         // Blocks that there are,
	spare int         // and how many of them are empty.
}

// blockRest is what is known of a block beside its connections.
type blockRest struct {
	generation uint32 // Of its slots, at least as high as any when the block was given back.
	listed     bool   // In slab.empty.
}

// get returns the connection in a slot whose block there is.
func (s *slab) get(slot uint32) *conn { return &s.blocks[slot>>blockBits][slot&(blockSlots-1)] }

// end returns the first slot that has never been taken.
func (s *slab) end() uint32 { return uint32(len(s.blocks) * blockSlots) }

// at returns the connection in a slot below end; nil if the slot is empty.
func (s *slab) at(slot uint32) *conn {
	if s.blocks[slot>>blockBits] == nil {
		return nil
	}
	if c := s.get(slot); c.state != stateFree {
		return c
	}
	return nil
}

// find returns the connection that has the slot with that generation, nil when it has gone.
func (s *slab) find(slot, generation uint32) *conn {
	if slot >= s.end() {
		return nil
	}
	if c := s.at(slot); c != nil && c.generation == generation {
		return c
	}
	return nil
}

// take returns an empty slot, or nil when all are in use.
func (s *slab) take() *conn {
	slot := s.slots.next()
	if slot >= slotsMax {
		return nil
	}
	block := slot >> blockBits
	switch {
	case block == uint32(len(s.blocks)):
		s.blocks, s.rest = append(s.blocks, nil), append(s.rest, blockRest{})
		s.make(block)
	case s.blocks[block] == nil:
		s.make(block)
	case s.slots.used[block] == 0:
		s.spare--
	}
	s.slots.take()
	c := s.get(slot)
	*c = conn{
		transport: transport{slot: slot}, generation: (c.generation + 1) & (1<<24 - 1),
		timerNext: timerNone, timerPrev: timerNone,
	}
	return c
}

func (s *slab) make(block uint32) {
	conns := new([blockSlots]conn)
	for i := range conns {
		c := &conns[i]
		c.slot, c.generation = block<<blockBits+uint32(i), s.rest[block].generation
		c.timerNext, c.timerPrev = timerNone, timerNone
	}
	s.blocks[block] = conns
	s.made++
}

// put empties a slot.
func (s *slab) put(c *conn) {
	slot := c.slot
	*c = conn{
		transport: transport{slot: slot}, generation: c.generation, timerNext: timerNone, timerPrev: timerNone,
	}
	if !s.slots.free(slot) {
		return
	}
	s.spare++
	if rest := &s.rest[slot>>blockBits]; !rest.listed {
		rest.listed = true
		s.empty = append(s.empty, slot>>blockBits)
	}
	for s.spare > 1+(s.made-s.spare)/4 {
		s.giveBack()
	}
}

// giveBack gives an empty block back.
func (s *slab) giveBack() {
	last := len(s.empty) - 1
	block := s.empty[last]
	s.empty = s.empty[:last]
	rest := &s.rest[block]
	rest.listed = false
	if s.slots.used[block] != 0 {
		return // It is in use again, and will be listed when it is empty.
	}
	for i := range s.blocks[block] {
		rest.generation = max(rest.generation, s.blocks[block][i].generation)
	}
	s.blocks[block] = nil
	s.made--
	s.spare--
}

// each calls fn for every connection in use. fn may end connections but not take slots.
func (s *slab) each(fn func(*conn)) {
	for _, block := range s.blocks {
		if block == nil {
			continue
		}
		for i := range block {
			if block[i].state != stateFree {
				fn(&block[i])
			}
		}
	}
}
