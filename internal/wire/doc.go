// Package wire speaks WebSocket (RFC 6455): the upgrade handshake and the
// framing, for a server and for a client, as functions from bytes to bytes.
//
// A caller reads bytes from wherever it likes. While a connection is new it
// asks HeadLen whether the request head is complete and gives it to Handshake,
// which checks it, asks the caller's decide, and appends the whole response.
// After that each connection has a Reader, whose Next takes one frame at a time
// from the start of the received bytes. Outgoing frames are appended by
// AppendFrame and its relatives.
//
// The one extension is permessage-deflate (RFC 7692), always without context
// takeover: Handshake negotiates it, AppendDeflated compresses frames, and an
// Inflater decompresses what a Reader has found.
//
// Threads: no function keeps state outside its arguments, so all may be called
// from any goroutine; a Reader belongs to the goroutine that owns its
// connection, an Inflater to one goroutine.
//
// It opens no descriptor, reads no clock, starts no goroutine and logs nothing.
// It decides nothing about paths, channels or who may connect: decide does.
package wire
