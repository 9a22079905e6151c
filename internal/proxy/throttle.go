package proxy

import (
	"log/slog"
	"net/url"
	"sync"
	"time"
)

// logInterval is the least time between two lines about calls of one endpoint that fail.
const logInterval = 30 * time.Second

// throttle logs calls of one endpoint that fail: at most one in logInterval, with how many failed since the one before,
// and after it the first one that succeeds again. So a backend that answers every other call costs two lines.
type throttle struct {
	logger *slog.Logger

	mu     sync.Mutex
	failed bool // The last line says that a call failed.
	logged time.Time
	since  int // Failures after the last line about one.
}

// note notes what became of a call; f is nil if there is an answer.
func (t *throttle) note(e *Endpoint, f *Failure) {
	if f != nil && (f.Result == ResultBadData || f.Result == ResultNoEndpoint) {
		return // That is the client's fault.
	}
	t.mu.Lock()
	failed, since, now := t.failed, t.since, time.Now()
	quiet := f != nil && !t.logged.IsZero() && now.Sub(t.logged) < logInterval
	switch {
	case quiet:
		t.since++
	case f != nil:
		t.failed, t.logged, t.since = true, now, 0
	case failed:
		t.failed = false
	}
	t.mu.Unlock()
	switch {
	case quiet:
	case f != nil:
		t.logger.Warn("a call of the backend failed", "kind", e.Kind.String(), "endpoint", shown(e.URL), "reason",
			f.Error(), "failed_before", since, "metric", "wsd_proxy_calls_total counts them; this line comes at most "+
				"every "+logInterval.String()+" for each endpoint")
	case failed:
		t.logger.Info("the backend answers again", "kind", e.Kind.String(), "endpoint", shown(e.URL), "failed_since",
			since)
	}
}

// shown returns an address without a query, which may contain a secret.
func shown(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + u.Path
}
