// Package tlsrecord is the record layer of TLS 1.3 (RFC 8446 §5) and TLS 1.2 (RFC 5246 §6) after the handshake, for a
// server that runs many connections on one goroutine. crypto/tls does the handshake; a State takes over its keys.
//
// A Conn opens records where they were read and seals records into a buffer of the caller's. It has no goroutine, makes
// no system call and holds no buffer, and its ciphers can be dropped, so that an idle connection costs its keys only.
// Everything that a Conn knows is in its State, which is plain data: another process can go on with it.
//
// It follows KeyUpdate messages in both directions, changes its own key before the limit of AES-GCM, or reports that it
// cannot (Worn), answers nothing else than data and alerts, and refuses renegotiation. Only AEAD cipher suites are
// supported. All cryptography is that of the standard library and of golang.org/x/crypto.
//
// Thread rule: a Conn belongs to one goroutine.
package tlsrecord
