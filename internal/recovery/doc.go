// Package recovery answers what a channel's stream held in a range of offsets: for clients that come back, and for history.
//
// # Job
//
// A query names a channel, and so a stream: the one partition that feeds it (source.Stream). Queries for one partition that wait are
// answered together, by one pass over its blocks from the newest offset that is asked for down to the oldest. A block comes from what
// the source has read last, else from what was read again lately, else from Kafka: then a range of whole multiples of PublicationsMax
// offsets, which is kept for those who come next. So what many clients that come back at once cause to be read does not grow with
// their number.
//
// # Threads
//
// New is inert; Start and Stop are called once, by the same goroutine. Ask may be called by any goroutine and never waits. A few
// workers, each with a source.Reader, make the passes; no two work on one partition. Another goroutine answers queries whose time is
// over and forgets what nobody asked for lately.
//
// # Limits
//
// Queries that wait (WaitingMax), records and bytes of an answer (PublicationsMax, BytesMax), bytes of one read from Kafka and of all
// that are kept (ReadBytesMax), of all answers in the making (the same), time (Timeout). Beyond any of them a query fails; an answer
// is never partial.
//
// # Not its job
//
// Whether a client may know what it asks for, joining an answer to what is delivered live (shard), deciding where a record goes
// (source).
package recovery
