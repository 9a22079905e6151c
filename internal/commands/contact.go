package commands

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// contact notes when brokers have answered fetches. It is a hook of kgo. A fetch without records is answered within
// fetchWait, so a broker that leads a partition and is silent for longer cannot be read from.
type contact struct {
	mu      sync.Mutex
	brokers map[int32]time.Time // When each broker that leads a partition has last answered, by its id.
	asked   time.Time           // Start of the process, from which on none has answered if brokers is empty.
	err     error               // The last error.

	failing, failed time.Time // When partitions began to fail, and have last failed.
}

var errSilent = errors.New("no broker has answered")

func (c *contact) init(now time.Time) {
	c.brokers, c.asked, c.err = make(map[int32]time.Time), now, errSilent
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (c *contact) OnBrokerE2E(meta kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if key != int16(kmsg.Fetch) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := e2e.Err(); err != nil {
		c.err = err
		return
	}
	c.brokers[meta.NodeID] = time.Now()
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (c *contact) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		c.fail(err)
	}
}

// fail notes an error.
func (c *contact) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// failPartition notes that a partition cannot be read, though its broker may answer. Errors with less than most between
// them go on.
func (c *contact) failPartition(err error, most time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.failed) > most {
		c.failing = now
	}
	c.failed, c.err = now, err
}

// leads notes which brokers lead partitions now.
func (c *contact) leads(leaders []int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := make(map[int32]time.Time, len(leaders))
	for _, id := range leaders {
		at, ok := c.brokers[id]
		if !ok {
			at = time.Now()
		}
		known[id] = at
	}
	c.brokers = known
}

// state returns since when not all brokers have answered, and the last error.
func (c *contact) state(most time.Duration) (since time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since = c.asked
	first := true
	for _, at := range c.brokers {
		if first || at.Before(since) {
			since, first = at, false
		}
	}
	if !c.failed.IsZero() && time.Since(c.failed) <= most && c.failing.Before(since) {
		since = c.failing
	}
	return since, c.err
}
