package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"wsd/loadtest/client"
)

// cohortInterval is the time between two cohorts: how exactly the window of a client is kept to.
const cohortInterval = 500 * time.Millisecond

// sourceClients is how many clients share a local address, so that each has ports enough.
const sourceClients = 2000

// dialers is how many clients of a cohort ask for their shard at a time (Opt 11).
const dialers = 16

// cohort is clients that dial first at the same time. Its engines stop dialing when the window is over.
type cohort struct {
	first, count int // Clients.
	mu           sync.Mutex
	engines      []*engine     // Guarded by mu until the cohort is done.
	err          error         // The same.
	done         chan struct{} // Closed when the window is over.
}

// engine is the clients of a cohort at one address.
type engine struct {
	*client.Engine
	channels []client.Channel
}

// cohorts are the clients from first to end in cohorts of a size.
func cohorts(first, end, size int) (list []*cohort) {
	for ; first < end; first += size {
		list = append(list, &cohort{first: first, count: min(size, end-first), done: make(chan struct{})})
	}
	return list
}

// launch starts a cohort at each interval, and returns when the last has begun.
func (t *trial) launch(ctx context.Context, list []*cohort) {
	begun := time.Now()
	for i, k := range list {
		wait(ctx, time.Until(begun.Add(time.Duration(i)*cohortInterval)))
		t.cohorts = append(t.cohorts, k)
		t.dialing.Go(func() { t.dial(ctx, k) })
	}
}

// dial connects the clients of a cohort for the length of the window.
func (t *trial) dial(ctx context.Context, k *cohort) {
	defer close(k.done)
	over := time.Now().Add(t.Window)
	groups := map[netip.AddrPort][]client.Channel{}
	channels := make([]client.Channel, k.count)
	for i := range channels {
		channels[i] = t.feed.channel(k.first + i)
	}
	if t.server.row.direct() {
		groups = t.assigned(ctx, channels, over)
	} else {
		groups[t.server.address] = channels
	}
	source := netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + k.first/sourceClients)})
	for address, channels := range groups {
		e, err := client.New(client.Options{Server: address, Host: address.String(), Protocol: client.Raw,
			Channels: channels, Clients: len(channels), Loops: 1, Dials: len(channels), AttemptTimeout: t.Window,
			Sources: []netip.Addr{source}, Now: t.now})
		k.mu.Lock()
		if err != nil {
			k.err = fmt.Errorf("make clients: %w", err)
			k.mu.Unlock()
			return
		}
		k.engines = append(k.engines, &engine{e, channels})
		k.mu.Unlock()
		e.Start()
	}
	// Early, when all are held.
	for time.Now().Before(over) && ctx.Err() == nil {
		if n := k.counters(); n.Held == int64(k.count) {
			break
		}
		wait(ctx, min(cohortInterval, time.Until(over)))
	}
	for _, e := range k.engines {
		e.Hold()
	}
}

// assigned asks for the shard of each client, with a connection each as real clients would.
func (t *trial) assigned(ctx context.Context, channels []client.Channel,
	over time.Time) map[netip.AddrPort][]client.Channel {
	ctx, cancel := context.WithDeadline(ctx, over)
	defer cancel()
	http1 := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var mu sync.Mutex
	groups := map[netip.AddrPort][]client.Channel{}
	var asking sync.WaitGroup
	for i := range dialers {
		asking.Go(func() {
			for n := i; n < len(channels) && ctx.Err() == nil; n += dialers {
				address, err := t.server.assign(ctx, http1)
				for err != nil && ctx.Err() == nil {
					wait(ctx, 200*time.Millisecond)
					address, err = t.server.assign(ctx, http1)
				}
				if err == nil {
					mu.Lock()
					groups[address] = append(groups[address], channels[n])
					mu.Unlock()
				}
			}
		})
	}
	asking.Wait()
	return groups
}

func (k *cohort) counters() (sum client.Counters) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.engines {
		n, _ := e.Snapshot()
		add(&sum, &n)
	}
	return sum
}

func add(sum, n *client.Counters) {
	sum.Held += n.Held
	sum.Open += n.Open
	sum.Closed += n.Closed
	sum.Refused += n.Refused
	sum.Failed += n.Failed
	sum.Deliveries += n.Deliveries
	sum.Behind += n.Behind
	sum.Gaps += n.Gaps
	sum.Lost += n.Lost
	sum.Duplicates += n.Duplicates
	sum.Corrupt += n.Corrupt
}

// counters are those of all clients.
func (t *trial) counters() (sum client.Counters) {
	for _, k := range t.cohorts {
		n := k.counters()
		add(&sum, &n)
	}
	return sum
}

// engines are all, once the windows are over.
func (t *trial) engines() (list []*engine) {
	for _, k := range t.cohorts {
		k.mu.Lock()
		list = append(list, k.engines...)
		k.mu.Unlock()
	}
	return list
}

// drain waits until every open client has the last record of its channel, but not for long without any delivery.
func (t *trial) drain(ctx context.Context) (n client.Counters) {
	const quiet, most = 3 * time.Second, 15 * time.Second
	for _, k := range t.cohorts {
		for _, e := range k.engines { // Its window is over.
			e.Drain(t.feed.lasts(e.channels))
		}
	}
	begun, moved := time.Now(), time.Now()
	for ctx.Err() == nil && time.Since(moved) < quiet && time.Since(begun) < most {
		before := n.Deliveries
		n = t.counters()
		drained := true
		for _, e := range t.engines() {
			_, d := e.Snapshot()
			drained = drained && d
		}
		if drained && n.Behind == 0 {
			break
		}
		if n.Deliveries > before {
			moved = time.Now()
		}
		wait(ctx, 50*time.Millisecond)
	}
	return t.counters()
}

// close ends all clients and returns the latencies of all records.
func (t *trial) close() *hdrhistogram.Histogram {
	var mu sync.Mutex
	var all *hdrhistogram.Histogram
	var closing sync.WaitGroup
	for _, e := range slices.Clone(t.engines()) {
		closing.Go(func() {
			_, times := e.Close(2 * time.Second)
			mu.Lock()
			defer mu.Unlock()
			if all == nil {
				all = times.Latency
			} else {
				all.Merge(times.Latency)
			}
		})
	}
	closing.Wait()
	return all
}

// wait waits, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
