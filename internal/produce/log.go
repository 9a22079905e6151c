package produce

import (
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/throttle"
)

// logInterval is the time between two lines about failures.
const logInterval = 10 * time.Second

// failureLog logs when records begin to fail, why, and when Kafka takes them again. Any goroutine may use it.
type failureLog struct {
	out     *slog.Logger
	problem throttle.Log

	mu  sync.Mutex
	why string // What the client said last.
}

func newFailureLog(out *slog.Logger) *failureLog {
	return &failureLog{out: out, problem: throttle.Log{Interval: logInterval}}
}

// Level implements kgo.Logger.
func (l *failureLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }

// Log implements kgo.Logger. The client logs each failed attempt; the last reason is kept for the next line about
// records that failed.
func (l *failureLog) Log(_ kgo.LogLevel, msg string, values ...any) {
	for i := 0; i+1 < len(values); i += 2 {
		if err, ok := values[i+1].(error); ok && err != nil {
			msg += ": " + err.Error()
		}
	}
	l.say(msg)
}

func (l *failureLog) say(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why = why
}

func (l *failureLog) said() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// failed notes a record that could not be written.
func (l *failureLog) failed(err *Error) {
	l.problem.Fail(l.out, "records cannot be written to Kafka", "kind", err.Kind.String(), "error", err, "client",
		l.said())
}

// succeeded notes a record that was written.
func (l *failureLog) succeeded() {
	if l.problem.OK(l.out, "records are written to Kafka again") {
		l.say("")
	}
}
