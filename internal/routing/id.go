package routing

import "fmt"

// ShardID numbers the shards of a process from 0.
type ShardID uint16

// ShardsMax is how many shards a process can have. The steering program's slots and a ShardSet hold that many.
const ShardsMax = 256

// ChannelID names a channel from its first subscriber to its last. A process never uses an id twice. Zero means none.
type ChannelID uint64

// ConnID names a connection in the process. It has 16 bits for the shard, 24 for the slot's generation and 24 for the
// slot.
type ConnID uint64

const (
	slotBits       = 24
	generationBits = 24
)

// MakeConnID makes a ConnID. It keeps the low 24 bits of generation and slot.
func MakeConnID(shard ShardID, generation, slot uint32) ConnID {
	id := ConnID(shard)<<generationBits | ConnID(generation&(1<<generationBits-1))
	return id<<slotBits | ConnID(slot&(1<<slotBits-1))
}

// Shard returns the shard that owns the connection.
func (id ConnID) Shard() ShardID { return ShardID(id >> (generationBits + slotBits)) }

// Generation distinguishes the connections that have used the slot one after the other.
func (id ConnID) Generation() uint32 { return uint32(id >> slotBits & (1<<generationBits - 1)) }

// Slot returns the connection's place in its shard.
func (id ConnID) Slot() uint32 { return uint32(id & (1<<slotBits - 1)) }

// String returns the id as logs show it: shard/slot.generation.
func (id ConnID) String() string {
	return fmt.Sprintf("%d/%d.%d", id.Shard(), id.Slot(), id.Generation())
}
