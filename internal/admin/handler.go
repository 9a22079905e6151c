package admin

import (
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"
)

// channelsMax bounds the list that the page gets; more would not fit into anybody's head either.
const channelsMax = 1000

// newHandler routes requests. Beyond loopback there are health, readiness and metrics only: nothing else is for strangers,
// and there is no authentication.
func newHandler(o Options, isLoopback bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /health", HealthHandler(o.Health))
	mux.Handle("GET /ready", readyHandler(o.Ready))
	mux.Handle("GET /metrics", o.Metrics)

	private := http.NewServeMux()
	private.HandleFunc("GET /{$}", pageHandler(o.ClientPort))
	private.HandleFunc("GET /page.css", assetHandler("page.css", "text/css; charset=utf-8"))
	for _, name := range []string{"page.js", "health.js", "messages.js", "stream.js"} {
		private.HandleFunc("GET /"+name, assetHandler(name, "text/javascript; charset=utf-8"))
	}
	private.Handle("GET /api/channels", channelsHandler(o))
	if o.Pprof {
		private.HandleFunc("GET /debug/pprof/", pprof.Index)
		private.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		private.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		private.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		private.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol) // What go tool pprof does.
		private.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	} else {
		private.HandleFunc("/debug/pprof/", refuse(http.StatusNotFound, "profiles are off: start wsd with ENABLE_PPROF=true in its environment"))
	}
	switch {
	case !isLoopback:
		mux.HandleFunc("/", refuse(http.StatusForbidden,
			"only /health, /ready and /metrics are served on an address that other machines reach: let admin.listen be a loopback address for the rest"))
	default:
		mux.Handle("/", localHost(private))
	}
	return secured(mux)
}

func refuse(code int, why string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, why, code) }
}

// secured sets what every answer says to browsers.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}

// localHost refuses requests for a host name that is not this machine's own: a web page elsewhere could give its own name a
// loopback address (DNS rebinding) and read what is served here with its visitor's browser.
func localHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := requestHost(r); !ok {
			http.Error(w, "open this by an IP address or as localhost, not by another name", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// requestHost returns the host that r was sent to, as it stands in a URL; ok is false unless it is an IP address or localhost.
func requestHost(r *http.Request) (host string, ok bool) {
	host = r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" {
		return host, true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return "", false
	}
	if addr.Is6() {
		return "[" + addr.String() + "]", true
	}
	return addr.String(), true
}

// channelList is the answer to /api/channels.
type channelList struct {
	Channels []string `json:"channels"` // Sorted, without repetition.
	More     int      `json:"more"`     // How many were left out.
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
