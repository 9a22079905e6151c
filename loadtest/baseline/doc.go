// Command baseline is the system that wsd replaces, in small: a load balancer in user space that tunnels WebSocket
// bytes to shard processes, a Kafka consumer and a goroutine pair per connection in each of them, and a broadcast bus
// between them. Each optimisation that was planned for it is a switch. See docs/baseline.md.
package main
