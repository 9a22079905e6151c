package shard

// Slots of the slab come in blocks, so that a connection never moves. A block is one word of slots.
const (
	blockBits  = 6 // 10 KiB: small against many shards that have few connections each.
	blockSlots = 1 << blockBits
	slotsMax   = 1 << 24 // A routing.ConnID has 24 bits for the slot,

	generationMax = 1<<24 - 1 // and 24 for the generation.
)

// slab holds the connections of a shard by slot. After a peak it gives empty blocks back, but for a quarter as many as
// are in use: connections come and go.
type slab struct {
	blocks []*[blockSlots]conn // Nil: given back.
	slots  slots

	listed []bool   // By block: it is in empty.
	empty  []uint32 // Blocks that were empty once, each listed once; some are in use again.
	made   int      // Blocks that there are,
	spare  int      // and how many of them are empty.

	// generation is that of the last connection. All slots share the count: a count for each would have to outlive its
	// block. So a slot has the same generation twice only with generationMax connections of the shard between them.
	generation uint32
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
		s.blocks, s.listed = append(s.blocks, nil), append(s.listed, false)
		s.make(block)
	case s.blocks[block] == nil:
		s.make(block)
	case s.slots.used[block] == 0:
		s.spare--
	}
	s.slots.take()
	s.generation = (s.generation + 1) & generationMax
	c := s.get(slot)
	*c = conn{
		transport: transport{slot: slot}, generation: s.generation, timerNext: timerNone, timerPrev: timerNone,
	}
	return c
}

func (s *slab) make(block uint32) {
	conns := new([blockSlots]conn)
	for i := range conns {
		c := &conns[i]
		c.slot = block<<blockBits + uint32(i)
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
	if block := slot >> blockBits; !s.listed[block] {
		s.listed[block] = true
		s.empty = append(s.empty, block)
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
	s.listed[block] = false
	if s.slots.used[block] != 0 {
		return // It is in use again, and will be listed when it is empty.
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
