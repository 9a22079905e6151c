// Package balancer is the load balancer of the baseline: it takes clients and tunnels their bytes to the shard with the
// fewest connections, or tells them its address (Opt 11).
//
// A tunnel has two goroutines, one for each direction, and two descriptors. A goroutine takes a buffer only while it
// has bytes to pass on, so an idle tunnel has none.
//
// Thread rule: Serve belongs to one goroutine; Close may be called from any.
package balancer
