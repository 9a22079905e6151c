// Package control serves HTTP over a Unix socket for the commands that talk to a running wsd, and contains their
// client.
//
// The mode of the socket (0600) is the only access control: a user who may open the socket may use it. The socket
// appears at its path only when it accepts requests. A socket that a dead process left is replaced; a socket that a
// living process serves is an error.
//
// Thread rule: every function and method may be called from any goroutine.
//
// The package does not know what it serves: the handler of /health, the Steerer and the Skipper come from the caller.
package control
