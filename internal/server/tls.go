package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"wsd/internal/config"
	"wsd/internal/reload"
	"wsd/internal/shard"
	"wsd/internal/tlshandshake"
)

// clientTLS is TLS on the client port: the certificates and ticket keys in use, and who does handshakes.
type clientTLS struct {
	pool *tlshandshake.Pool // Nil without client.tls_listen.
	keys *reload.Value[*config.ClientKeys]
	now  func() time.Time

	mu      sync.Mutex
	used    *config.ClientKeys // What the pool's configuration was made from.
	tickets [][32]byte         // Random ticket keys, the newest first; none if a file has them.
	rotated time.Time          // When the newest one was made.
}

const (
	// ticketRotation is the time from one random ticket key to the next one.
	ticketRotation = 12 * time.Hour
	// ticketKeysKept is how many random ticket keys open tickets, so that a ticket is good for a day at least.
	ticketKeysKept = 3
	// expiryWarning is how long before a certificate expires /health says so.
	expiryWarning = 7 * 24 * time.Hour
)

// set makes the pool from the configuration.
func (t *clientTLS) set(c *config.Client, log *slog.Logger) error {
	if len(c.TLSListen) == 0 {
		return nil
	}
	t.now = time.Now
	first, err := c.TLS.Read()
	if err != nil {
		return err
	}
	t.keys = reload.New(first, reload.Options[*config.ClientKeys]{Name: "TLS certificates and ticket keys for clients",
		Paths: c.TLS.Files(), Parse: c.TLS.Parse, Logger: log})
	workers := c.TLS.Workers
	if workers == 0 {
		workers = max(1, runtime.GOMAXPROCS(0)/2)
	}
	t.used = t.keys.Get()
	t.rotate()
	t.pool, err = tlshandshake.New(tlshandshake.Options{
		Workers: workers, PendingMax: c.TLS.HandshakesMax, Patience: c.HandshakeTimeout / 2,
		Config: tlshandshake.NewConfig(t.used.Certificates, t.ticketKeys()),
	})
	return err
}

// ticketKeys returns the keys of the file, or else the random ones.
func (t *clientTLS) ticketKeys() [][32]byte {
	if len(t.used.TicketKeys) > 0 {
		return t.used.TicketKeys
	}
	return t.tickets
}

// rotate makes a new random ticket key when it is time, and reports whether it did.
func (t *clientTLS) rotate() bool {
	if now := t.now(); t.rotated.IsZero() || now.Sub(t.rotated) >= ticketRotation {
		var key [32]byte
		_, _ = rand.Read(key[:]) // Never fails.
		t.tickets = append([][32]byte{key}, t.tickets[:min(len(t.tickets), ticketKeysKept-1)]...)
		t.rotated = now
		return len(t.used.TicketKeys) == 0
	}
	return false
}

// Refresh reads the files again, and has new handshakes use what has changed. It implements reload.Refresher.
func (t *clientTLS) Refresh() {
	keys := t.keys.Get()
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := keys != t.used
	t.used = keys
	if t.rotate() || changed {
		t.pool.SetConfig(tlshandshake.NewConfig(t.used.Certificates, t.ticketKeys()))
	}
}

// watch refreshes until the returned function is called, which returns when that has ended.
func (t *clientTLS) watch(ctx context.Context) (stop func()) {
	if t.pool == nil {
		return func() {}
	}
	return watchFiles(ctx, "tls", "files", watchInterval, t)
}

// shard returns the TLS options of shards, whose first listeners are plain.
func (t *clientTLS) shard(plain int) shard.TLS { return shard.TLS{Handshakes: t.pool, From: plain} }

// stats returns the counters of handshakes, nil without TLS.
func (t *clientTLS) stats() *tlshandshake.Stats {
	if t.pool == nil {
		return nil
	}
	return t.pool.Stats()
}

// expires returns when the first certificate expires; zero without TLS. Any goroutine may call it.
func (t *clientTLS) expires() time.Time {
	at, _ := t.expiry()
	return at
}

func (t *clientTLS) expiry() (at time.Time, name string) {
	if t.pool == nil {
		return time.Time{}, ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used.Expires()
}

// problems says which certificate expires soon, or has. Any goroutine may call it.
func (t *clientTLS) problems(now time.Time) []string {
	at, name := t.expiry()
	switch {
	case at.IsZero() || at.Sub(now) > expiryWarning:
		return nil
	case now.After(at):
		return []string{fmt.Sprintf("the TLS certificate for %s has expired at %s: clients refuse to connect; renew "+
			"the files of client.tls.certificates", name, at.UTC().Format(time.RFC3339))}
	default:
		return []string{fmt.Sprintf("the TLS certificate for %s expires at %s: renew the files of "+
			"client.tls.certificates", name, at.UTC().Format(time.RFC3339))}
	}
}
