// Package admin is the private HTTP listener: health, readiness, metrics, profiles and a page that shows messages arriving.
//
// Thread rule: every function and method may be called from any goroutine. What Options' functions return is asked for on
// net/http's goroutines, several at a time.
//
// The package imports nothing of wsd: the server hands it functions that describe the rest. It changes nothing; commands that
// do go through the control socket.
package admin
