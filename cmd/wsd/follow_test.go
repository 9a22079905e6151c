package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// follower subscribes to a channel, and comes back with recovery to the next address when its connection ends.
type follower struct {
	channel string

	mu        sync.Mutex
	got       []string // Publications.
	ready     bool     // It was subscribed once.
	recovered int      // Times that it came back and got what it missed.
	faults    []string

	epoch  string
	offset uint64
}

// pushed is what a follower or a member reads.
type pushed struct {
	ID    int
	Error *struct {
		Code      int
		Temporary bool
	}
	Connect   *struct{}
	Subscribe *struct {
		Recoverable, Recovered bool
		Epoch                  string
		Offset                 uint64
		Publications           []pushedPublication
	}
	Push *struct {
		Channel                string
		Pub                    *pushedPublication
		Subscribe, Unsubscribe *struct{}
	}
}

type pushedPublication struct {
	Data   string
	Offset uint64
}

// eachPushed calls do with what comes, and answers pings, until the connection ends or do returns false. It returns
// why the connection ended.
func eachPushed(conn net.Conn, do func(p *pushed) bool) error {
	for {
		b, err := wsutil.ReadServerText(conn)
		if err != nil {
			return err
		}
		for line := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n") {
			if line == "{}" {
				if err := wsutil.WriteClientText(conn, []byte(line)); err != nil {
					return err
				}
				continue
			}
			var p pushed
			if err := json.Unmarshal([]byte(line), &p); err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
			if !do(&p) {
				return nil
			}
		}
	}
}

// dialUntil connects to a server. The connection is closed when ctx ends.
func dialUntil(ctx context.Context, address string) (net.Conn, error) {
	conn, _, _, err := ws.Dialer{Timeout: waitMax}.Dial(ctx, "ws://"+address+"/connection/websocket")
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return conn, nil
}

// follow follows the channel until ctx ends.
func (f *follower) follow(ctx context.Context, addresses []string) {
	for i := 0; ctx.Err() == nil; i++ {
		if conn, err := dialUntil(ctx, addresses[i%len(addresses)]); err == nil {
			f.serve(conn)
			_ = conn.Close()
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// serve subscribes and reads until the connection ends, or there is a reason to end it.
func (f *follower) serve(conn net.Conn) {
	subscribe := fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q}}`, f.channel)
	if f.epoch != "" {
		subscribe = fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q,"recover":true,"epoch":%q,"offset":%d}}`, f.channel,
			f.epoch, f.offset)
	}
	for _, command := range []string{`{"id":1,"connect":{}}`, subscribe} {
		if wsutil.WriteClientText(conn, []byte(command)) != nil {
			return
		}
	}
	_ = eachPushed(conn, func(p *pushed) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		switch {
		case p.Error != nil:
			if !p.Error.Temporary {
				f.faults = append(f.faults, fmt.Sprintf("error %d", p.Error.Code))
			}
			return false
		case p.Subscribe != nil:
			return f.subscribed(p)
		case p.Push != nil && p.Push.Pub != nil:
			f.take(*p.Push.Pub)
		case p.Push != nil && p.Push.Unsubscribe != nil:
			return false
		}
		return true
	})
}

// subscribed takes the reply to a subscribe command.
func (f *follower) subscribed(p *pushed) bool {
	reply := p.Subscribe
	switch {
	case f.epoch == "":
		if !reply.Recoverable {
			return false // wsd has not seen the topic yet.
		}
		f.epoch, f.offset, f.ready = reply.Epoch, reply.Offset, true
	case !reply.Recovered:
		f.faults = append(f.faults, "not recovered")
	default:
		f.recovered++
		for _, one := range reply.Publications {
			f.take(one)
		}
	}
	return true
}

func (f *follower) take(p pushedPublication) {
	f.got = append(f.got, p.Data)
	f.offset = p.Offset
}

// state returns copies.
func (f *follower) state() (got []string, ready bool, recovered int, faults []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got), f.ready, f.recovered, slices.Clone(f.faults)
}
