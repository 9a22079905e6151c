// Package admin is the private HTTP port: health, readiness, metrics, profiles and a demo page that shows messages
// arriving.
//
// Health, readiness and metrics are for everyone who reaches the port. The rest is for who has the token, if one is
// configured, and else for this machine.
//
// Thread rule: every function and method may be called from any goroutine. The package calls the functions in Options
// on the goroutines of net/http, several at a time.
//
// The package knows nothing of the rest of wsd: the server passes it functions that describe it. It changes nothing.
// Commands that change something use the control socket.
package admin
