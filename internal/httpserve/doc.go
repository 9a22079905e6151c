// Package httpserve runs one HTTP server on a listener from Start to Close or Shutdown. The admin port and the control
// socket are such servers.
//
// A client cannot keep others from a server by holding connections, see slotListener. It can still cost CPU time: what
// requests cost is up to the handler.
//
// Thread rule: every function and method may be called from any goroutine.
package httpserve
