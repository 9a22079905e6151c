package kafka

import (
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// throttleMax bounds how long a broker's word counts. Kafka's quotas hold a client back for at most the time over which
// they measure, which is eleven seconds by default.
const throttleMax = 5 * time.Minute

// Throttled returns how long the broker asks not to be asked again, or 0. A Request before that waits (KIP-219).
func (c *Conn) Throttled() time.Duration {
	if c.throttledUntil.IsZero() {
		return 0
	}
	return max(0, time.Until(c.throttledUntil))
}

// awaitThrottle waits until the broker may be asked again. It returns net.ErrClosed if the connection is closed
// meanwhile.
func (c *Conn) awaitThrottle() error {
	if c.throttledUntil.IsZero() {
		return nil
	}
	wait := time.NewTimer(c.Throttled())
	defer wait.Stop()
	select {
	case <-wait.C:
		c.throttledUntil = time.Time{}
		return nil
	case <-c.closed:
	case <-c.ctxDone:
	}
	return net.ErrClosed
}

// noteThrottle notes how long the broker holds the client back, as a response says.
func (c *Conn) noteThrottle(resp kmsg.Response) {
	throttle, ok := resp.(kmsg.ThrottleResponse)
	if !ok {
		return
	}
	millis, after := throttle.Throttle()
	if millis <= 0 {
		return
	}
	d := min(time.Duration(millis)*time.Millisecond, throttleMax)
	if after { // A broker before Kafka 2.0 waits before it responds.
		c.throttledUntil = time.Now().Add(d)
	}
	if c.onThrottle != nil {
		c.onThrottle(c.dialled, d)
	}
}
