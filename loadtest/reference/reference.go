// Package reference is a WebSocket server as one writes it in Go from published parts: net/http, gobwas/ws and
// crypto/tls, with a goroutine that reads for each connection. It shows what wsd's record layer saves.
//
// Thread rule: Serve belongs to one goroutine.
//
// It serves raw clients and delivers what it reads from Kafka. The goroutine that reads from Kafka writes to all
// connections of a channel in turn, one write for all records of a fetch, with frames that are built once. It has no
// limits, no pings and no care for slow clients: it waits for them.
package reference

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gobwas/ws"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"
)

// Options is what Serve needs. All fields are required except for Certificate.
type Options struct {
	Address     string // HOST:PORT to serve at.
	Broker      string // Broker of Kafka, as HOST:PORT.
	Topic       string // Topic to deliver from its beginning.
	Route       string // Channel of a record, in which {topic} and {key} stand for those of the record.
	Certificate string // File with a certificate and its key in PEM form; empty: no TLS.
	SendBuffer  int    // SO_SNDBUF of a connection, in bytes.
}

// server is a running server.
type server struct {
	mu       sync.Mutex
	channels map[string][]net.Conn
}

// Serve serves until ctx ends.
func Serve(ctx context.Context, o Options) error {
	consumer, err := kgo.NewClient(kgo.SeedBrokers(o.Broker), kgo.ConsumeTopics(o.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMinBytes(1))
	if err != nil {
		return fmt.Errorf("create a Kafka consumer: %w", err)
	}
	defer consumer.Close()
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { // Connections inherit it.
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, o.SendBuffer)
		}), err)
	}}
	l, err := listen.Listen(ctx, "tcp", o.Address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if o.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(o.Certificate, o.Certificate)
		if err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}})
	}
	s := &server{channels: map[string][]net.Conn{}}
	h := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(l) }()
	defer func() { _ = h.Close() }() // Nothing is left to do if it fails.
	delivering, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.deliver(delivering, consumer, o.Route)
	}()
	defer func() {
		cancel()
		<-done
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		return nil
	}
}

// ServeHTTP upgrades a connection and reads from it until it ends.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	names := r.URL.Query()["channel"]
	conn, _, _, err := ws.UpgradeHTTP(r, w) // Clients of the load test send nothing before they are answered.
	if err != nil {
		return // It has been answered.
	}
	s.mu.Lock()
	for _, name := range names {
		s.channels[name] = append(s.channels[name], conn)
	}
	s.mu.Unlock()
	go s.read(conn, names)
}

// read reads until the connection ends, and drops it.
func (s *server) read(conn net.Conn, names []string) {
	var b [512]byte
	for {
		if _, err := conn.Read(b[:]); err != nil {
			break
		}
	}
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		s.channels[name] = slices.DeleteFunc(s.channels[name], func(c net.Conn) bool { return c == conn })
	}
}

// deliver delivers records until ctx ends.
func (s *server) deliver(ctx context.Context, consumer *kgo.Client, route string) {
	for ctx.Err() == nil {
		frames := map[string][]byte{}
		consumer.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			name := strings.NewReplacer("{topic}", r.Topic, "{key}", string(r.Key)).Replace(route)
			frames[name] = append(frames[name], ws.MustCompileFrame(ws.NewTextFrame(r.Value))...)
		})
		for name, b := range frames {
			s.mu.Lock()
			list := slices.Clone(s.channels[name])
			s.mu.Unlock()
			for _, conn := range list {
				_, _ = conn.Write(b) // Its reader notices the end.
			}
		}
	}
}
