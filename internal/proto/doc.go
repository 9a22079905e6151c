// Package proto encodes and decodes messages of the client protocol, which is Centrifugo's.
//
// The message types and their encoding come from github.com/centrifugal/protocol. This package adds what a server
// needs: the tables of error, disconnect and unsubscribe codes; decoding of command frames with limits, so that no
// client input can crash or block the reader; encoding of publications without allocation; and the check that a value
// is one line of JSON, which the framing of the protocol relies on.
//
// The protocol has two encodings, JSON and Protobuf. Encoding contains what differs between them. Both use the same
// codes.
//
// Thread rule: functions keep no state and may be called from any goroutine. The tables must not be changed.
//
// The package knows nothing of connections, channels or the order of commands. The shard checks, for example, that
// connect comes first. Package wire puts payloads into WebSocket frames.
package proto
