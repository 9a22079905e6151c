// Package dev is what `wsd dev` adds to a server: a Kafka inside the process (kfake), a demo feed and a way to produce the lines of
// standard input.
//
// Any Kafka client can use the cluster over TCP. It keeps its records in memory, the newest 32 MiB or so of each partition, and
// loses them when the process ends.
//
// Thread rule: Start, Stop and the accessors belong to the goroutine that runs the command.
package dev
