// Package client is many WebSocket clients in few goroutines: it dials them, subscribes each to one channel, and checks every record
// that each of them gets.
//
// It is made to cost little, because it shares the machine with the server that it measures: one event loop per goroutine over
// non-blocking sockets, one read buffer for all clients of a loop, no goroutine and no buffer per client, and no JSON parser per
// message. The records are made by Format, so that a record's number and time stand at a fixed place.
//
// Disturbers are other clients, a goroutine each, that are slow, stopped or reset at random and come back, and know for each connection what
// the server may have counted.
//
// Threads: the methods of Engine and Disturbers may be called from any goroutine. A loop's clients belong to its goroutine.
//
// It talks neither TLS nor compression, does not produce to Kafka, and an Engine reconnects no client that was subscribed once.
package client
