// Package kafka speaks Kafka's wire protocol: connections, requests, authentication, record batches, error codes. It
// knows nothing about wsd's topics, channels or routes, and decides nothing about losses.
//
// # Connections
//
// A Dialer connects to a broker: TCP, TLS, version negotiation, SASL. The result is a Conn with one request in flight
// at a time. Its reads and writes are raw system calls (socket.go), which is why this package imports epoll.
//
// # Requests
//
// Every request and response is encoded by kmsg. It returns errors on malformed responses, which TestDamagedResponses
// and FuzzResponse check for each kind of request that wsd sends. A forged count of tagged fields can keep kmsg busy
// for half a minute, but takes no memory; a response takes memory in proportion to its size.
//
// # Record batches
//
// A Walker goes through the batches of a fetch where they lie in the response. Nobody else parses a batch, so the rules
// about positions, markers, aborted transactions and compressed data are written once. kafka-go's and kmsg's own
// decoders do not do: they hide a batch's last offset (an empty compacted batch would be fetched for ever), fail a
// whole response for one bad batch, or allocate for each record.
//
// # What other libraries do
//
// From kafka-go come the SASL mechanisms (package sasl is the interface that Dialer takes), the texts of error codes,
// and the decompressors for gzip and lz4. Its protocol package is not used: its decoder panics on malformed responses.
// Snappy and zstd go through klauspost's decoders directly, because kafka-go believes what compressed data says about
// its size.
//
// # Threads
//
// Any goroutine may use a Dialer. One goroutine at a time uses a Conn, a Walker or a Backoff; any goroutine may close a
// Conn.
//
// # Reading path
//
// dialer.go, conn.go and auth.go make a connection and send a request. walker.go is the walk through batches; batch.go,
// record.go and varint.go are the format, reader.go and inflate.go get at the records, and aborted.go follows
// transactions. errors.go sorts errors into kinds, and retry.go waits between attempts.
package kafka
