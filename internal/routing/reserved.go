package routing

// The interest table also holds whom records reach that no channel names. A channel's name is UTF-8, wherever it comes from: names that
// begin with a byte which UTF-8 does not have are out of reach of clients, rules and records alike.
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
