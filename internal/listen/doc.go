// Package listen opens the client port: for every address one group of
// listening sockets that share it by SO_REUSEPORT, one socket per shard, in
// shard order.
//
// SO_REUSEPORT would let a second server of the same user join a group and take
// a share of its clients, without an error anywhere. Open refuses that, for
// every combination of wildcard and specific addresses, and names the process
// that has the port.
//
// Open is called once, by the goroutine that starts the server. The descriptors
// belong to the caller afterwards. The package does not accept connections and
// does not choose among shards: see packages shard and steering.
package listen
