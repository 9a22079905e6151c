package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gobwas/ws/wsutil"
)

// orderedCode is the close code of disconnect commands in TestApacheKafkaCommands. Their reasons are unique.
const orderedCode = 4000

// member is a user with one client, which comes back when its connection ends, to another address if its own is gone.
type member struct {
	user, token string
	addresses   []string // The first one is its home.

	mu          sync.Mutex
	seen        map[string]int // What came from the server.
	connections int            // Made so far.
	connected   bool
	losses      []string // Why connections ended: an id of a disconnect command, or "" for any other reason.
	faults      []string
	changed     chan struct{} // Closed at the next change.
}

func newMember(user, token string, addresses []string) *member {
	return &member{user: user, token: token, addresses: addresses, seen: map[string]int{}, changed: make(chan struct{})}
}

// note changes the member and wakes those who wait for it.
func (m *member) note(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *member) see(event string) { m.note(func() { m.seen[event]++ }) }

// await waits until cond, which is called with m locked, and reports whether that came before ctx ended.
func (m *member) await(ctx context.Context, cond func() bool) bool {
	for {
		m.mu.Lock()
		ok, changed := cond(), m.changed
		m.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// live connects until ctx ends.
func (m *member) live(ctx context.Context) {
	for i := 0; ctx.Err() == nil; {
		conn, err := dialUntil(ctx, m.addresses[i%len(m.addresses)])
		if err != nil {
			i++
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		connect := fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, m.token)
		if err = wsutil.WriteClientText(conn, []byte(connect)); err == nil {
			err = eachPushed(conn, m.take)
		}
		_ = conn.Close()
		if ctx.Err() != nil {
			return
		}
		var closed wsutil.ClosedError
		reason := ""
		if errors.As(err, &closed) && closed.Code == orderedCode {
			reason = closed.Reason
		}
		m.note(func() {
			if m.connected || reason != "" {
				m.losses = append(m.losses, reason)
			}
			if m.connected = false; reason != "" {
				m.seen["disconnect "+reason]++
			}
		})
	}
}

// take notes what came.
func (m *member) take(p *pushed) bool {
	switch {
	case p.Error != nil:
		if !p.Error.Temporary {
			m.note(func() { m.faults = append(m.faults, fmt.Sprintf("error %d", p.Error.Code)) })
		}
		return false
	case p.Connect != nil:
		m.note(func() { m.connections, m.connected = m.connections+1, true })
	case p.Push == nil:
	case p.Push.Pub != nil:
		m.see("publish " + p.Push.Pub.Data)
	case p.Push.Subscribe != nil:
		m.see("subscribe " + p.Push.Channel)
	case p.Push.Unsubscribe != nil:
		m.see("unsubscribe " + p.Push.Channel)
	}
	return true
}

// arrived waits until the member is connected, and returns which of its connections that is.
func (m *member) arrived(ctx context.Context) (connection int, ok bool) {
	ok = m.await(ctx, func() bool { connection = m.connections; return m.connected })
	return connection, ok
}

// sees waits until the member has seen an event, or until the connection that it was for has ended without it.
func (m *member) sees(ctx context.Context, event string, connection int) (seen, lost bool) {
	m.await(ctx, func() bool {
		seen = m.seen[event] > 0
		lost = !seen && (!m.connected || m.connections != connection)
		return seen || lost
	})
	return seen, lost
}

// lossesOf returns why connections ended, from the first one on.
func (m *member) lossesOf() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.losses)
}
