package produce

import (
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// logInterval is the time between two lines about failures.
const logInterval = 10 * time.Second

// throttledLog logs when records begin to fail, why, and when Kafka takes them again. Any goroutine may use it.
type throttledLog struct {
	out *slog.Logger

	mu      sync.Mutex
	failing bool
	count   int // Since the last line.
	next    time.Time
	why     string // What the client said last.
}

// Level implements kgo.Logger.
func (l *throttledLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }

// Log implements kgo.Logger. The client logs each failed attempt; the last reason is kept for the next line about
// records that failed.
func (l *throttledLog) Log(_ kgo.LogLevel, msg string, values ...any) {
	for i := 0; i+1 < len(values); i += 2 {
		if err, ok := values[i+1].(error); ok && err != nil {
			msg += ": " + err.Error()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why = msg
}

// failed notes a record that could not be written.
func (l *throttledLog) failed(err *Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = true
	l.count++
	if now := time.Now(); now.After(l.next) {
		l.next = now.Add(logInterval)
		l.out.Warn("records cannot be written to Kafka", "kind", err.Kind.String(), "error", err, "count", l.count,
			"client", l.why)
		l.count = 0
	}
}

// succeeded notes a record that was written.
func (l *throttledLog) succeeded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing {
		l.failing, l.next, l.why = false, time.Time{}, ""
		l.out.Info("records are written to Kafka again", "count", l.count)
		l.count = 0
	}
}
