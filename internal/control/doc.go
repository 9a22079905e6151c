// Package control serves HTTP over a Unix socket for the commands that talk to a running wsd, and is their client.
//
// The socket's mode (0600) is the whole access control: who may open it may use it. It is put in place only when it can be
// answered, a socket that a dead process left is replaced, and one that a living process answers is an error.
//
// Thread rule: every function and method may be called from any goroutine.
//
// The package does not know what it serves: health's handler and the Steerer come from the caller.
package control
