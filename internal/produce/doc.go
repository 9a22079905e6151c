// Package produce writes records to Kafka: with acks=all, by an idempotent producer (KIP-98), each at most once and
// each answered.
//
// A Producer never makes its caller wait. What it cannot take is an error at once; everything else is answered by a
// callback, when Kafka has acknowledged the record or the deadline has passed. The number and the size of the records
// under way are bounded. They count until their outcome is known, which may be after their deadline: a record that was
// sent to a broker that has gone since may have been written, and is tried again until a broker says so. So an answer
// without an error means that the record is in the log once. An error means that it is not, except for Timeout and, for
// records that were under way at the end of Close, Closed: after these it may be or may appear later.
//
// Threads: any goroutine may use a Producer. Callbacks come from its goroutines, one at a time for each of them, and
// must not block.
//
// The package knows nothing of channels and clients (publish), and chooses no topic (route).
package produce
