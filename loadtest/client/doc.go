// Package client is many WebSocket clients in few goroutines: it dials them, subscribes each to one channel, and checks every record
// that each of them gets.
//
// It is made to cost little, because it shares the machine with the server that it measures: one event loop per goroutine over
// non-blocking sockets, one read buffer for all clients of a loop, no goroutine and no buffer per client, and no JSON parser per
// message. The records are made by Format, so that a record's number and time stand at a fixed place.
//
// Threads: the methods of Engine may be called from any goroutine. A loop's clients belong to its goroutine.
//
// It talks neither TLS nor compression, does not produce to Kafka, and reconnects no client that was subscribed once.
package client
