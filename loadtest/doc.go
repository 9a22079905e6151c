// Command loadtest connects many WebSocket clients to a wsd, produces records to its Kafka, checks that every client
// gets every record once and in order, and measures what that costs the server. See docs/loadtest.md.
package main
