package proxy

import (
	"log/slog"
	"net/url"
	"sync"
	"time"
)

// logInterval is the least time between two lines about calls of one kind that fail.
const logInterval = 30 * time.Second

// throttle logs calls of one kind that fail: the first one, then at most one in logInterval with how many failed since,
// and the first one that succeeds again.
type throttle struct {
	logger *slog.Logger
	kind   Kind

	mu     sync.Mutex
	failed bool
	logged time.Time
	since  int // Failures after the last line.
}

// note notes what became of a call; f is nil if there is an answer.
func (t *throttle) note(e *Endpoint, f *Failure) {
	if f != nil && (f.Result == ResultBadData || f.Result == ResultNoEndpoint) {
		return // That is the client's fault.
	}
	t.mu.Lock()
	failed, since, now := t.failed, t.since, time.Now()
	quiet := f != nil && failed && now.Sub(t.logged) < logInterval
	switch {
	case quiet:
		t.since++
	case f != nil:
		t.failed, t.logged, t.since = true, now, 0
	case failed:
		t.failed, t.since = false, 0
	}
	t.mu.Unlock()
	switch {
	case quiet:
	case f != nil:
		t.logger.Warn("a call of the backend failed", "kind", t.kind, "endpoint", shown(e.URL), "reason", f.Error(),
			"failed_before", since, "metric", "wsd_proxy_calls_total counts them; this line comes at most every "+
				logInterval.String())
	case failed:
		t.logger.Info("the backend answers again", "kind", t.kind, "endpoint", shown(e.URL), "failed_before", since)
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
