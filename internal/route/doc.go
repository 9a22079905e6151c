// Package route decides where a record goes, from the record alone and the rules of the configuration.
//
// A Table is made once of all rules. Table.Topic is what of it concerns one topic; Topic.Place then decides for each record. Whoever reads a
// record, live or again, asks Place, so that all decide alike. Topic.Fixed and Topic.CanName answer the opposite question: which
// partitions can feed a channel.
//
// Threads: Table and Topic never change and may be used by any goroutine; a Placement is its caller's own.
//
// Placing a record allocates nothing, but for a JSON text or name with escapes in it. A channel's name has at most ChannelBytesMax bytes.
//
// It knows neither who is subscribed to a channel (routing.Interest) nor how records are read (source).
package route
