// Package recovery answers what a channel's stream holds in a range of offsets: for clients that come back, and for
// history.
//
// # Job
//
// A query names a channel, and so a stream: the one partition that feeds the channel (source.Stream). It asks for the
// records that follow an offset, as many as fit into an answer (bus.QueryNext), or for the last ones (bus.QueryLast). A
// client that has missed much gets it portion by portion, from one QueryNext after the other.
//
// The records of a partition are found in blocks: what the source has read last, else what was read again lately, else
// what Kafka has. Queries that need the same block share the walk through it, and blocks from Kafka are kept for those
// that need them next. So if many clients come back at the same time, the amount that is read does not grow with their
// number.
//
// # Fairness
//
// Work is done in passes over the queries that wait for one partition. A pass is a limited amount of it. In a pass each
// query in turn gets a share, which is the next few blocks that it needs; all others that need something of these
// blocks take part in the walk. What is left waits behind what has come meanwhile. Each client address has its first
// query served before any has its second, and so have the owners of an address's queries.
//
// A query whose block is in memory is near, the others are far. They wait in lanes of their own and have workers of
// their own, so that a client that has missed little waits neither for those that have missed much, nor for Kafka.
//
// # Threads
//
// New does nothing; one goroutine calls Start and Stop once. Any goroutine may call Ask, which never waits. The workers
// make the passes; no two have the same lane of the same partition, and a query is in one lane. One more goroutine, the
// clock, answers queries that are canceled or whose time is over, and forgets blocks that nobody asked for lately.
//
// # Limits
//
// There are limits on the queries that wait (WaitingMax), on those of one address (AddressMax), on the records of an
// answer (bus.Query), on the bytes of all blocks that are kept and of all answers being prepared (ReadBytesMax), and on
// time (Timeout). A block from Kafka ends at about a megabyte, but has one record batch at least. If answers being
// prepared take too much memory, or when its time is over, a QueryNext is answered with what it has, if that is
// something. A query that has to count (bus.Query.CountMax) keeps no records if memory is short, and collects them
// again when it has counted.
//
// # Not its job
//
// The shard decides whether a client may know what it asks for, limits how much it asks for at a time, and joins the
// answers to what is delivered live. The source decides where a record goes.
//
// # Reading path
//
// recovery.go has the API, query.go a query, share.go whose turn it is, lane.go where it waits, clock.go and worker.go
// who looks after it. pass.go is a pass; next.go and last.go are the walks through a block for the two kinds of
// queries. block.go finds or reads a block, and past.go keeps blocks. slots.go keeps walks from taking the CPU.
package recovery
