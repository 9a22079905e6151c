// Package client runs many WebSocket clients in few goroutines. It connects them, subscribes each to one channel, and
// checks every record that each of them gets.
//
// It must cost little CPU, because it shares the machine with the server that it measures. So it has one event loop per
// goroutine over non-blocking sockets, one read buffer for all clients of a loop, no goroutine and no buffer per
// client, and no JSON parser per message. Format creates the records, so that a record's number and time are at a fixed
// position.
//
// Some clients may disturb the server: they are slow, stopped or reset at random, and come back. The engine knows for
// each of their connections what the server may have counted.
//
// Thread rule: the methods of Engine may be called from any goroutine. A loop's clients belong to its goroutine. TLS
// handshakes have goroutines of their own.
//
// The package does not produce to Kafka. It does not connect a client again that the server has disconnected.
package client
