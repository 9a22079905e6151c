// Package server builds a wsd from a configuration, runs it and stops it. It is the only package that knows all others.
//
// It builds the client port, steering, the bus, the source and the shards, and then the ports for operators. Run starts
// the shards first and the source after them, so that no record is read before someone can take it. Stopping goes in
// the opposite order: no new connections, no new records, the batches on the bus are delivered, the connections are
// closed, then the rest.
//
// Thread rule: New, Run and Addresses belong to the goroutine that runs the server.
package server
