// Package proxy asks an application's backend over HTTP on behalf of clients, in the form of Centrifugo's HTTP proxy
// (https://centrifugal.dev/docs/server/proxy), so that backends written for Centrifugo work unchanged: one POST with a
// JSON object for each call, and a JSON object with result, error or disconnect as the answer.
//
// A Pool makes the calls in goroutines of its own. It bounds how many calls of each kind are under way and wait, how
// long each takes, and the bytes of all of them. Nothing is sent twice that may have reached the backend, except for
// questions (connect, refresh, subscribe, sub_refresh), which change nothing by being asked again.
//
// Thread rule: any goroutine may use a Pool. Call does not block, and neither must the function that it is given.
package proxy
