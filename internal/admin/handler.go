package admin

import (
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"
)

// channelsMax is the number of channels that the page gets at most.
const channelsMax = 1000

// newHandler routes requests. On an address that other machines can reach it serves only health, readiness and metrics,
// because there is no authentication, and the server API, which asks for a key.
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
		private.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol) // go tool pprof uses POST.
		private.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	} else {
		private.HandleFunc("/debug/pprof/", refuse(http.StatusNotFound, "profiles are off: start wsd with "+
			"ENABLE_PPROF=true in its environment"))
	}
	switch {
	case !isLoopback:
		mux.HandleFunc("/", refuse(http.StatusForbidden,
			"only /health, /ready and /metrics are served on an address that other machines can reach: set "+
				"admin.listen to a loopback address to use the rest"))
	default:
		mux.Handle("/", private)
	}
	return secured(localHost(isLoopback, withoutSlash(mux)))
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
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}

// localHost refuses requests to a loopback address for host names other than localhost. Otherwise a web page elsewhere
// could let its own name resolve to that address (DNS rebinding), and read this server through its visitor's browser.
// Other addresses may have names. A request of HTTP/1.0 without a host is a load balancer's and not a browser's.
func localHost(isLoopback bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		_, ok := requestHost(r)
		ok = ok || r.Host == "" && !r.ProtoAtLeast(1, 1)
		if !ok && (isLoopback || local != nil && loopback(local)) {
			http.Error(w, "use an IP address or localhost in the URL, not another host name", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// requestHost returns the host that r was sent to, in the form used in a URL. ok is false unless it is an IP address or
// localhost.
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

// channelList is the response to /api/channels.
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
