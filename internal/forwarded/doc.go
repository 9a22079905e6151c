// Package forwarded finds out who the client behind a proxy is: from a header of the PROXY protocol, which precedes all
// that the client sends, or from the HTTP fields X-Forwarded-For and Forwarded. It is bytes in and an address out.
//
// Whoever can write such a header can pretend to be anyone. So the caller asks for addresses only on connections from
// its own proxies, which Prefixes finds, and never on others.
//
// Thread rule: any goroutine may call any function. Prefixes never change.
package forwarded
