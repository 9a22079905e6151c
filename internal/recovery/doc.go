// Package recovery answers what a channel's stream holds in a range of offsets: for clients that come back, and for
// history.
//
// # Job
//
// A query names a channel, and so a stream: the one partition that feeds the channel (source.Stream). The queries that
// wait for one partition are answered together, by one pass over its blocks, from the newest offset that somebody asks
// for down to the oldest. A block comes from what the source has read last, else from what was read again lately, else
// from Kafka. A read from Kafka covers whole multiples of PublicationsMax offsets and is kept for the queries that
// follow. So if many clients come back at the same time, the amount that is read does not grow with their number.
//
// # Threads
//
// New does nothing; one goroutine calls Start and Stop once. Any goroutine may call Ask, which never waits. A few
// workers, each with a source.Reader, make the passes; no two work on the same partition. One more goroutine answers
// queries whose time is over and forgets blocks that nobody asked for lately.
//
// # Limits
//
// There are limits on the queries that wait (WaitingMax), on the records and bytes of an answer (PublicationsMax,
// BytesMax), on the bytes of one read from Kafka, of all blocks that are kept and of all answers being prepared
// (ReadBytesMax), and on time (Timeout). A query above one of them fails; an answer is never partial.
//
// # Not its job
//
// The shard decides whether a client may know what it asks for, and joins an answer to what is delivered live. The
// source decides where a record goes.
//
// # Reading path
//
// recovery.go has queries, groups and the clock. pass.go is one pass over a stream's blocks, and want.go what it
// collects. past.go keeps blocks. slots.go keeps passes from taking the CPU.
package recovery
