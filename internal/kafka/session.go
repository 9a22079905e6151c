package kafka

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

// A broker may limit how long a login lasts: to connections.max.reauth.ms, and to the life of a token. It then ends a
// connection that sends anything else than a login after that time (KIP-368). So a connection logs in again before.

const (
	// lifetimeMax bounds what a broker says about how long a login lasts.
	lifetimeMax = 365 * 24 * time.Hour
	// renewPause is the shortest time between two logins. Kafka refuses a second one within a second.
	renewPause = 1100 * time.Millisecond
	// quickEnd is how long a connection must have lasted for its end to be none of a fault. Whoever connects again
	// immediately then does so once in that time at most.
	quickEnd = time.Second
)

// session is how long the login of a connection lasts. The connection's goroutine owns it.
type session struct {
	renewAt time.Time                     // Zero means never.
	renew   func() (time.Duration, error) // Logs in again, and returns how long that login lasts.
}

// begin notes a login. The next one is due after 85 to 95 percent of its life, as in Kafka's own client: connections
// that were opened together do not all log in together.
func (s *session) begin(now time.Time, lifetime time.Duration) {
	s.renewAt = time.Time{}
	if lifetime > 0 {
		part := 0.85 + 0.1*rand.Float64() //nolint:gosec // It only spreads logins.
		s.renewAt = now.Add(max(time.Duration(part*float64(lifetime)), renewPause))
	}
}

// due reports whether it is time to log in again. It costs nothing if logins last without limit.
func (s *session) due() bool { return !s.renewAt.IsZero() && !time.Now().Before(s.renewAt) }

// renewSession logs in again. If that fails, the connection has come to its end, and a new connection shows whether
// something is wrong: the broker or a proxy may not be able to do it, or the credentials now belong to another user.
func (c *Conn) renewSession() error {
	c.session.renewAt = time.Time{} // The requests of the login must not ask for another one.
	began := time.Now()
	lifetime, err := c.session.renew()
	if err != nil {
		err = Describe("log in again on the open connection", err)
		if errors.Is(err, os.ErrDeadlineExceeded) { // The broker does not answer.
			return err
		}
		return c.endedBy(err)
	}
	c.session.begin(began, lifetime)
	return nil
}

// EndError says that a connection that worked was ended in a way that is part of a broker's work: it was idle for too
// long, its login has expired, or the broker stops or sheds connections. Nothing is wrong unless another connection
// fails.
type EndError struct{ err error }

func (e *EndError) Error() string { return e.err.Error() }
func (e *EndError) Unwrap() error { return e.err }

// HasEnded reports whether err is the end of a connection without a fault, see EndError.
func HasEnded(err error) bool { return errors.As(err, new(*EndError)) }

// ended makes err an *EndError if the broker ended the connection between two responses.
func (c *Conn) ended(err error) error {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return c.endedBy(err)
		}
	}
	return err
}

// endedBy makes err an *EndError if the connection has worked for some time.
func (c *Conn) endedBy(err error) error {
	if c.served == 0 || time.Since(c.opened) < quickEnd {
		return err
	}
	return &EndError{err}
}
