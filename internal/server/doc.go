// Package server builds a whole wsd from a configuration, runs it and stops it: the one package that knows all others.
//
// The order of building: client port, steering, bus, source, shards, then the ports for operators. Serving starts with the shards,
// and the source last, so that nothing is read before somebody can take it. Stopping goes the other way: no new connection, no new
// record, what is on the bus is delivered, connections are closed, then all else.
//
// Thread rule: New, Run and Addresses belong to the goroutine that runs the server.
package server
