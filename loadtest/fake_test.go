package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// fake is a small server of raw clients, with a Kafka and an admin port.
type fake struct {
	t      *testing.T
	kafka  *kfake.Cluster
	http   *httptest.Server // Clients and /health.
	topics string           // Of /health, as JSON.
	pprof  bool             // Whether it serves profiles.
	// What is delivered instead of a record, of which the n-th has come; nil: the record.
	fault   func(f *fake, n int, value []byte) [][]byte
	after   func(n int) // Called with the number of records delivered so far.
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]string // Channel of each client.
}

func newFake(t *testing.T, changes ...func(*fake)) *fake {
	t.Helper()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "loadtest", "other"))
	require.NoError(t, err)
	f := &fake{t: t, kafka: kafka, conns: map[net.Conn]string{}, topics: `{"name":"loadtest","state":"present"},{"name":"other","state":"present"}`}
	for _, change := range changes {
		change(f)
	}
	consumer, err := kgo.NewClient(kgo.SeedBrokers(kafka.ListenAddrs()...), kgo.ConsumeTopics("loadtest", "other"))
	require.NoError(t, err)
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(context.Background())
	f.running.Go(func() { f.relay(ctx, consumer) })
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", f.client)
	mux.HandleFunc("/health", f.health)
	if f.pprof {
		mux.HandleFunc("/debug/pprof/", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.URL.Path)) })
	}
	f.http = httptest.NewServer(mux)
	t.Cleanup(func() {
		f.cancel()
		f.http.Close()
		f.running.Wait()
		consumer.Close()
		kafka.Close()
	})
	return f
}

// args are the options that lead to the fake.
func (f *fake) args(more ...string) []string {
	return append(more, "--url", strings.Replace(f.http.URL, "http", "ws", 1), "--admin", f.http.URL,
		"--kafka", strings.Join(f.kafka.ListenAddrs(), ","), "--timeout", "8s")
}

func (f *fake) health(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _ = fmt.Fprintf(w, `{"status":"ok","version":"1.2","steering":{"mode":"hash"},"shards":[{"connections":%d},{"connections":0}],
		"kafka":{"topics":[%s]},"process":{"pid":%d,"cpu_seconds":-9}}`, len(f.conns), f.topics, os.Getpid())
}

func (f *fake) client(w http.ResponseWriter, r *http.Request) {
	f.running.Add(1)
	defer f.running.Done()
	// Locked until the client is known: once it has the answer, it is to get every record.
	f.mu.Lock()
	conn, rw, _, err := ws.UpgradeHTTP(r, w)
	if err == nil {
		f.conns[conn] = r.URL.Query().Get("channel")
	}
	f.mu.Unlock()
	if !assert.NoError(f.t, err) {
		return
	}
	for {
		frame, err := ws.ReadFrame(rw)
		if err != nil {
			break
		}
		if frame.Header.OpCode == ws.OpClose {
			frame = ws.UnmaskFrameInPlace(frame)
			_, _ = conn.Write(ws.MustCompileFrame(ws.NewCloseFrame(frame.Payload)))
			break
		}
	}
	f.mu.Lock()
	delete(f.conns, conn)
	f.mu.Unlock()
	_ = conn.Close()
}

// relay delivers the records of Kafka.
func (f *fake) relay(ctx context.Context, consumer *kgo.Client) {
	n := 0
	for {
		fetches := consumer.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			values := [][]byte{r.Value}
			if f.fault != nil {
				values = f.fault(f, n, r.Value)
			}
			f.mu.Lock()
			for conn, channel := range f.conns {
				for _, value := range values {
					if channel == r.Topic {
						_, _ = conn.Write(ws.MustCompileFrame(ws.NewTextFrame(value))) // A client that has gone is removed by its own goroutine.
					}
				}
			}
			f.mu.Unlock()
			if f.after != nil {
				f.after(n)
			}
		})
	}
}

// say sends a frame to all clients.
func (f *fake) say(frame ws.Frame) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		_, _ = conn.Write(ws.MustCompileFrame(frame))
	}
}

// cut ends all connections without a close frame.
func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		_ = conn.Close()
	}
}
