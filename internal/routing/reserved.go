package routing

// The interest table also says which shards have receivers of messages, which have no channel. The names for them begin
// with a byte that UTF-8 does not have. A channel's name is always UTF-8, so neither clients nor rules nor records can
// use them.
const (
	reserved = "\xff"

	// Everybody is the name under which a shard notes that it has connections.
	Everybody = reserved + "everybody"

	userPrefix = reserved + "user:"
)

// AppendUser appends the name under which a shard notes that it has a connection of the user.
func AppendUser(dst, user []byte) []byte { return append(append(dst, userPrefix...), user...) }

// Reserved reports whether the name is one that no channel can have.
func Reserved(name string) bool { return len(name) > 0 && name[0] == reserved[0] }
