// Package dev is what `wsd dev` adds to a server: a Kafka inside the process (kfake), a demo feed, and a producer for
// the lines of standard input.
//
// Any Kafka client can use the cluster over TCP. It keeps its records in memory, about the newest 32 MiB of each
// partition, and loses them when the process ends.
//
// Thread rule: Start, Stop and the accessors belong to the goroutine that runs the command.
package dev
