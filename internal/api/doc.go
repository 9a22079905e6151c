// Package api is the server API: HTTP requests by which a backend publishes, and acts on clients. Its form is that of
// Centrifugo's HTTP API, so that client libraries of that work unchanged:
//
//	POST /api/METHOD       the request's body is the parameters, a JSON object
//	POST /api/batch        {"commands": [{METHOD: parameters}, …], "parallel": true}
//	POST /api              {"method": METHOD, "params": parameters}, or several of them
//
// An error of a method is {"error": {"code", "message"}} with status 200, as there; with the header
// X-Centrifugo-Error-Mode: transport it has a status of its own. The document at GET /api/openapi.json describes all
// of it.
//
// Every request shows a key, which may be limited to methods and channels. Keys are compared in constant time, and are
// taken from headers only, because addresses end up in logs.
//
// Everything is bounded: connections and requests under way (httpserve), bodies, commands of a batch, channels of a
// broadcast, and the time that a request may take.
//
// The package knows how requests look, and nothing about how they are carried out: see Backend.
//
// Threads: any goroutine may use a Handler. Functions of a Backend are called by the goroutines of requests.
package api
