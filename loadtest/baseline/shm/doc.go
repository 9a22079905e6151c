// Package shm is the memory that the processes of the baseline share: counters, the load of each shard, the table of
// which shards want a channel, the flag of central admission, and the broadcast rings.
//
// Thread rule: the words of a Board are atomic, so any goroutine of any process may use them; the comment of a field
// names who writes it. A Ring has one writer, which its caller serializes, and one reader per shard.
//
// The memory is a memfd (memfd_create(2)) that the main process creates and its shards inherit. It is gone when the
// last of them has ended.
package shm
