// Package client runs many WebSocket clients in few goroutines. It connects them, subscribes each to one channel, and
// checks every record that each of them gets.
//
// It must cost little CPU, because it shares the machine with the server that it measures. So it has one event loop per
// goroutine over non-blocking sockets, one read buffer for all clients of a loop, no goroutine and no buffer per
// client, and no JSON parser per message. Format creates the records, so that a record's number and time are at a fixed
// position.
//
// Disturbers are other clients, with one goroutine each, that are slow, stopped or reset at random, and reconnect. They
// know for each connection what the server may have counted.
//
// Thread rule: the methods of Engine and Disturbers may be called from any goroutine. A loop's clients belong to its
// goroutine.
//
// The package does not support TLS and does not produce to Kafka. An Engine does not reconnect a client that has been
// subscribed.
package client
