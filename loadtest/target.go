package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"wsd/loadtest/client"
	"wsd/loadtest/serverstat"
)

// target is the server under test.
type target struct {
	connect client.Options     // How clients connect to it.
	admin   string             // Base of its admin port; none: it has none.
	pid     int                // Process id; 0: unknown.
	note    string             // Why pid is unknown.
	others  []int              // Process ids of other processes that count as load generator.
	health  *serverstat.Health // Newest answer of the admin port; nil: none.
}

// checkServed checks that the server serves the topics, before they are created.
func (t *target) checkServed(ctx context.Context, topics []string) error {
	if t.admin == "none" {
		return nil
	}
	h, err := serverstat.ReadHealth(ctx, t.admin)
	if err != nil {
		return nil //nolint:nilerr // An admin port is optional; find notes its absence.
	}
	for _, topic := range topics {
		if h.Topic(topic) == "" {
			return fmt.Errorf("the server does not serve topic %s: add it to its option kafka.topics", topic)
		}
	}
	return nil
}

// find finds the server's process, and waits until the server knows the topics.
func (t *target) find(ctx context.Context, topics []string) error {
	if t.admin == "none" {
		t.note = "no --pid and no --admin"
		return nil
	}
	for {
		h, err := serverstat.ReadHealth(ctx, t.admin)
		if err != nil {
			t.note = err.Error()
			return nil //nolint:nilerr // The report says why it lacks the server's figures.
		}
		missing := ""
		for _, topic := range topics {
			if h.Topic(topic) != "present" {
				missing = topic
			}
		}
		if missing == "" {
			t.health = &h
			if t.pid == 0 && h.Local(serverstat.Proc{Root: "/proc"}) {
				t.pid = h.Process.PID
			} else if t.pid == 0 {
				t.note = "the server at --admin runs on another machine or in a container"
			}
			return nil
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return fmt.Errorf("the server does not see topic %s, which exists: %w", missing, ctx.Err())
		}
	}
}

// readHealth reads how the clients are distributed over the shards.
func (t *target) readHealth(ctx context.Context, log io.Writer) {
	if t.health == nil {
		return
	}
	h, err := serverstat.ReadHealth(context.WithoutCancel(ctx), t.admin)
	if err != nil {
		_, _ = fmt.Fprintf(log, "%v\n", err)
		t.health = nil
		return
	}
	t.health = &h
}

// written returns how many records the server has written to sockets.
func (t *target) written() (n uint64, known bool) {
	if t.health == nil {
		return 0, false
	}
	h, err := serverstat.ReadHealth(context.Background(), t.admin)
	return h.Deliveries(), err == nil
}
