package admin

import (
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
)

// scripts are those of the page.
var scripts = []string{
	"page.js", "dom.js", "health.js", "machine.js", "messages.js", "plots.js", "steering.js", "stream.js", "survey.js",
}

// channelsMax is the number of channels that the page gets at most.
const channelsMax = 1000

// newHandler routes requests. Health, readiness and metrics are for everyone, the server API for who has a key of it,
// and the rest for who has the token; without one it is served on addresses that only this machine can reach.
func newHandler(o Options, isLoopback bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /health", HealthHandler(o.Health))
	mux.Handle("GET /ready", readyHandler(o.Ready))
	mux.Handle("GET /metrics", o.Metrics)

	if o.API != nil {
		mux.Handle("POST /api/", o.API)
		mux.Handle("POST /api", o.API)
		mux.Handle("GET /api/openapi.json", o.API)
	}
	private := http.NewServeMux()
	known := namesOf(&o)
	private.HandleFunc("GET /{$}", pageHandler(known, o.ClientPort, o.Token != nil))
	private.HandleFunc("GET /page.css", assetHandler("page.css", "text/css; charset=utf-8"))
	for _, name := range scripts {
		private.HandleFunc("GET /"+name, assetHandler(name, "text/javascript; charset=utf-8"))
	}
	private.Handle("GET /page/channels", channelsHandler(o))
	for pattern, handler := range o.Page {
		private.Handle(pattern, handler)
	}
	sameOrigin := http.NewCrossOriginProtection()
	for pattern, handler := range o.Changes {
		if o.Token == nil {
			handler = refuse(http.StatusForbidden, "nothing can be changed here without a token: set "+
				"admin.token_file, or use wsd steer and wsd drain")
		}
		private.Handle(pattern, sameOrigin.Handler(handler))
	}
	if o.Pprof {
		private.HandleFunc("GET /debug/pprof/", pprof.Index)
		private.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		private.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		private.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		private.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol) // go tool pprof uses POST.
		private.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	} else {
		private.HandleFunc("/debug/pprof/", refuse(http.StatusNotFound, "profiles are off: start wsd with "+
			"ENABLE_PPROF=true in its environment"))
	}
	switch {
	case o.Token != nil:
		mux.Handle("/", known.known(authorised(o.Token, private)))
	case !isLoopback:
		mux.HandleFunc("/", refuse(http.StatusForbidden,
			"only /health, /ready and /metrics are served on an address that other machines can reach: set "+
				"admin.listen to a loopback address to use the rest, or admin.token_file"))
	default:
		mux.Handle("/", private)
	}
	return secured(known.localHost(isLoopback, withoutSlash(mux)))
}

// withoutSlash lets a slash follow a path.
func withoutSlash(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := strings.TrimSuffix(r.URL.Path, "/"); path != "" && !strings.HasPrefix(path, "/debug/") {
			r.URL.Path = path
		}
		next.ServeHTTP(w, r)
	})
}

func refuse(code int, why string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, why, code) }
}

// secured sets headers that restrict what browsers do with a response.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("X-Frame-Options", "DENY") // For browsers that do not know frame-ancestors.
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}

// channelList is the response to /page/channels.
type channelList struct {
	Channels []string `json:"channels"` // Names of channels, sorted, without duplicates.
	More     int      `json:"more"`     // Number of channels that were left out.
}

func channelsHandler(o Options) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		names := slices.Clone(o.Channels())
		slices.Sort(names)
		names = slices.Compact(names)
		list := channelList{Channels: notNil(names[:min(len(names), channelsMax)])}
		list.More = len(names) - len(list.Channels)
		writeJSON(w, http.StatusOK, list)
	})
}
