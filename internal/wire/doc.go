// Package wire implements WebSocket (RFC 6455): the upgrade handshake and the framing, for servers and clients, as
// functions from bytes to bytes.
//
// The caller reads the bytes. While a connection is new, it calls HeadLen to find out whether the request head is
// complete, and passes the head to Handshake, which checks it, calls the caller's decide, and appends the whole
// response. After that each connection has a Reader, whose Next reads one frame at a time from the start of the
// received bytes. AppendFrame and similar functions append outgoing frames.
//
// The only extension is permessage-deflate (RFC 7692), always without context takeover. Handshake negotiates it,
// AppendDeflated compresses frames, and an Inflater decompresses the messages that a Reader returns.
//
// Thread rule: functions keep no state, so any goroutine may call them. A Reader belongs to the goroutine that owns its
// connection, an Inflater to one goroutine.
//
// The package opens no descriptor, reads no clock, starts no goroutine and logs nothing. It makes no decision about
// paths, channels or who may connect; decide does.
package wire
