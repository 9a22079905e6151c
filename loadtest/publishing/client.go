package publishing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// client is a connection that publishes, or only subscribes.
type client struct {
	run     *Run
	conn    net.Conn
	channel string
	rate    float64 // Publications a second; 0: it only subscribes.
	abuser  bool    // Its errors are wanted.

	mu     sync.Mutex // Guards writes, and sent.
	sent   map[uint32]time.Time
	next   uint32
	closed atomic.Bool
}

// frame is what of a line of the client protocol matters here.
type frame struct {
	ID    uint32
	Error *struct{ Code uint32 }
	Push  *struct {
		Pub *struct{ Data struct{ T, N int64 } }
	}
	Connect, Subscribe, Publish *struct{}
}

// open connects and subscribes.
func (r *Run) open(ctx context.Context, channel string, rate float64, subscribe bool) (*client, error) {
	c := &client{run: r, channel: channel, rate: rate, sent: make(map[uint32]time.Time), next: 10}
	conn, early, _, err := ws.Dialer{Timeout: timeout}.Dial(ctx, r.o.URL)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", r.o.URL, err)
	}
	if early != nil {
		_ = conn.Close()
		return nil, errors.New("the server sent before it was asked")
	}
	c.conn = conn
	commands := []string{`{"id":1,"connect":{"token":` + strconv.Quote(r.o.Token) + `}}`}
	if subscribe {
		commands = append(commands, `{"id":2,"subscribe":{"channel":`+strconv.Quote(channel)+`}}`)
	}
	_ = conn.SetDeadline(time.Now().Add(timeout))
	for _, command := range commands {
		if err := wsutil.WriteClientText(conn, []byte(command)); err != nil {
			return nil, fmt.Errorf("write to the server: %w", err)
		}
		line, err := wsutil.ReadServerText(conn)
		if err != nil {
			return nil, fmt.Errorf("read from the server: %w", err)
		}
		if bytes.Contains(line, []byte(`"error"`)) {
			return nil, fmt.Errorf("the server refuses %s: %s", command, line)
		}
	}
	return c, conn.SetDeadline(time.Time{})
}

// read counts what comes until the connection ends.
func (c *client) read() {
	defer c.closed.Store(true)
	for {
		message, err := wsutil.ReadServerText(c.conn)
		if err != nil {
			return
		}
		now := time.Now()
		for line := range bytes.SplitSeq(bytes.TrimSpace(message), []byte{'\n'}) {
			if string(line) == "{}" {
				c.mu.Lock()
				_ = wsutil.WriteClientText(c.conn, line)
				c.mu.Unlock()
				continue
			}
			var f frame
			if json.Unmarshal(line, &f) != nil {
				c.run.garbled.Add(1)
				continue
			}
			c.take(&f, now)
		}
	}
}

// take counts a reply or a publication.
func (c *client) take(f *frame, now time.Time) {
	if f.Push != nil && f.Push.Pub != nil {
		c.run.received.Add(1)
		if !c.run.warm.Load() {
			return
		}
		c.run.record(c.run.half().receive, now.Sub(c.run.began)-time.Duration(f.Push.Pub.Data.T))
		return
	}
	c.mu.Lock()
	at, ok := c.sent[f.ID]
	delete(c.sent, f.ID)
	c.mu.Unlock()
	switch {
	case !ok:
	case f.Error != nil:
		c.run.refused(f.Error.Code, c.abuser)
	default:
		if c.run.acked.Add(1); c.abuser {
			c.run.ackedAbusers.Add(1)
		}
		if c.run.warm.Load() && !c.abuser {
			c.run.record(c.run.half().ack, now.Sub(at))
		}
	}
}

// publish publishes at the client's rate until ctx ends.
func (c *client) publish(ctx context.Context, phase time.Duration) {
	interval := time.Duration(float64(time.Second) / c.rate)
	next := time.Now().Add(phase)
	for n := int64(0); !c.closed.Load(); n++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		next = next.Add(interval)
		now := time.Now()
		c.mu.Lock()
		id := c.next
		c.next++
		c.sent[id] = now
		command := fmt.Appendf(nil, `{"id":%d,"publish":{"channel":%q,"data":{"t":%d,"n":%d,"x":%q}}}`, id, c.channel,
			now.Sub(c.run.began), n, c.run.padding)
		err := wsutil.WriteClientText(c.conn, command)
		c.mu.Unlock()
		if err != nil {
			return
		}
		c.run.sent.Add(1)
	}
}

// waits reports whether the client waits for answers.
func (c *client) waits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sent) > 0 && !c.closed.Load()
}
