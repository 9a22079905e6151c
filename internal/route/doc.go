// Package route decides where a record goes, from the record alone and the rules of the configuration.
//
// New makes one Table of all rules. Table.Topic returns the part that concerns one topic. Topic.Place then decides for
// each record. Everybody who reads a record, live or again, asks Place, so that all decide alike. Topic.Fixed and
// Topic.CanName answer the opposite question: which partitions can feed a channel.
//
// Threads: Table and Topic never change, and any goroutine may use them. A Placement belongs to its caller.
//
// Place allocates nothing, except for a JSON text or name with escapes in it. A channel's name has at most
// ChannelBytesMax bytes.
//
// The package knows neither who is subscribed to a channel (routing.Interest) nor how records are read (source).
package route
