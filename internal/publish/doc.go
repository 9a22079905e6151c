// Package publish writes a publication to the topic from which its channel is fed, so that it comes back to the
// channel's subscribers like any other record.
//
// A Publisher is what the publish command of clients and the server API have in common: limits of size, the inversion
// of the routes, the headers that say who published, idempotency keys, and the client protocol's error for each way to
// fail. Who may publish to which channel is the caller's question.
//
// Threads: any goroutine may use a Publisher. It never blocks; the work is done in the Producer's goroutine.
package publish
