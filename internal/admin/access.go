package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// scriptHeader marks the requests of the page's scripts. Where the token has changed, they say so on the page: a
// challenge would have the browser prompt for a password with each of them.
const scriptHeader = "X-Wsd-Page"

// authorised passes on requests that have the token: as Authorization: Bearer, or, because a browser cannot send that
// by itself, as the password of basic authentication, with any user name. A browser also sends the
// password for requests of other pages: responses are for this origin only, and so is what changes something.
func authorised(token func() string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !tokenGiven(r, token()) {
			w.Header().Set("Cache-Control", "no-store")
			if r.Header.Get(scriptHeader) == "" {
				w.Header().Add("WWW-Authenticate", `Basic realm="wsd admin port: any user, and the token as the password"`)
			}
			w.Header().Add("WWW-Authenticate", `Bearer realm="wsd admin port"`)
			http.Error(w, "this needs the token of the admin port (admin.token_file), as Authorization: Bearer TOKEN "+
				"or as the password; /health, /ready and /metrics do not", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// tokenGiven reports whether a request has the token, in a time that does not depend on how much of it is right.
func tokenGiven(r *http.Request, token string) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given = strings.TrimSpace(given)
	if !strings.EqualFold(scheme, "Bearer") {
		_, given, _ = r.BasicAuth()
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && token != ""
}

// names are the host names under which the page may be reached, beside localhost and IP addresses.
type names []string

// namesOf returns the configured names, and that of the address to listen on.
func namesOf(o *Options) (list names) {
	for _, name := range o.Hosts {
		list = append(list, strings.ToLower(name))
	}
	if host, _, err := net.SplitHostPort(o.Listen); err == nil && host != "" {
		list = append(list, strings.ToLower(host))
	}
	return list
}

// localHost refuses requests to a loopback address for host names that are not known. Otherwise a web page elsewhere
// could let its own name resolve to that address (DNS rebinding), and read this server through its visitor's browser.
// What is served on other addresses to everyone may have any name. A request of HTTP/1.0 without a host is a load
// balancer's and not a browser's.
func (n names) localHost(isLoopback bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		_, ok := n.requestHost(r)
		ok = ok || r.Host == "" && !r.ProtoAtLeast(1, 1)
		if !ok && (isLoopback || local != nil && loopback(local)) {
			refuseHost(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// known refuses requests for host names that are not known, whatever address they come to.
func (n names) known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := n.requestHost(r); !ok && (r.Host != "" || r.ProtoAtLeast(1, 1)) {
			refuseHost(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func refuseHost(w http.ResponseWriter) {
	http.Error(w, "use an IP address or localhost in the URL, or add its host name to admin.hosts",
		http.StatusForbidden)
}

// requestHost returns the host that r was sent to, in the form used in a URL. ok is false unless it is an IP address,
// localhost or one of the names.
func (n names) requestHost(r *http.Request) (host string, ok bool) {
	host = r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || slices.Contains(n, host) {
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
