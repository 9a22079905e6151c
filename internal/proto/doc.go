// Package proto turns messages of the client protocol, Centrifugo's, into
// payload bytes and back.
//
// The message types and their encoding come from github.com/centrifugal/protocol.
// Here are what a server needs around them: the closed tables of error,
// disconnect and unsubscribe codes; command frames read under limits, so that no
// client input can crash or stall the reader; publications laid out without
// allocation; and the check that a value is one line of JSON, which the framing
// of the protocol rests on.
//
// The protocol has two encodings, JSON and Protobuf, and bytes are laid out once
// for each. Encoding gathers what differs; the tables of codes serve both.
//
// Threads: all functions may be called from any goroutine; they keep no state.
// The tables are fixed.
//
// It knows no connection, no channel and no order of commands: that connect
// comes first, for example, is the shard's to check. It does not frame: a
// payload goes into a WebSocket message by package wire.
package proto
