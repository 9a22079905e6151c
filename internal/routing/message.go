package routing

// connBit marks a ChannelID that stands for a connection. It is free in both: ids of channels count up from 1, and
// those of connections begin with a shard below ShardsMax.
const connBit = 1 << 63

// ConnChannel returns the id under which the bus carries messages to one connection. The interest table does not need
// an entry for it.
func ConnChannel(id ConnID) ChannelID { return ChannelID(id) | connBit }

// Conn returns the connection that the id stands for. It reports false if the id is that of a channel.
func (id ChannelID) Conn() (ConnID, bool) { return ConnID(id &^ connBit), id&connBit != 0 }
