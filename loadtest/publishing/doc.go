// Package publishing has clients publish to a server, and measures how long Kafka's acknowledgement and the publication
// itself take to come back, beside a bare loop that produces to the same Kafka and fetches from it.
//
// Each client is a connection with two goroutines. Threads: Run is called once.
package publishing
