// Package listen opens the client port: for each address, one group of listening sockets that share the address with
// SO_REUSEPORT. A group has one socket per shard, in shard order.
//
// SO_REUSEPORT would let a second server of the same user join a group and take a share of its clients, without an
// error anywhere. Open refuses that, for every combination of wildcard and specific addresses, and names the process
// that uses the port.
//
// Thread rule: the goroutine that starts the server calls Open once. Afterwards the descriptors belong to it.
//
// The package does not accept connections and does not choose among shards: see packages shard and steering.
package listen
