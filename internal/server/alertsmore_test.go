package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"wsd/internal/control"
	"wsd/internal/dev"
	"wsd/internal/kafkatest"
	"wsd/internal/testutil"
)

// repeat does something twenty times a second until the returned function is called.
func repeat(do func()) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			do()
			<-tick.C
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// troubled is a wsd with tokens, TLS, steering, rules and small limits, one after the other of which goes wrong.
type troubled struct {
	*rig
	kafka            *kafkatest.Cluster
	producer         *kgo.Client
	stopping, placed string // Topics: a record that a rule cannot place stops the one and is skipped in the other.
	published        string // A topic that clients publish to.
	certificate      string
	backendFails     atomic.Bool
}

const troubledFiles, troubledMemory = 600, 4 << 20

// What the alerts of TestApacheKafkaAlerts leave out, in the same way: a wsd that starts before Kafka and does not steer,
// that goes, and another one in its place. Make test-alerts runs it.
func TestApacheKafkaAlertsMore(t *testing.T) {
	if _, err := exec.LookPath("prometheus"); err != nil {
		t.Skip("prometheus is not installed: make test-alerts")
	}
	testutil.RequireBPF(t)
	k := kafkatest.Apache(t, 1)
	topics := []string{k.Topic(t, 1), k.Topic(t, 1), k.Topic(t, 1)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := ln.Addr().String()
	require.NoError(t, ln.Close())
	flags := map[string]any{"kafka.brokers": k.Addrs(), "kafka.topics": topics, "admin.listen": address, "shards": "2"}

	k.Stop(t, 1)
	first := &rig{t: t, log: &testutil.Buffer{}}
	first.start(configure(t, flags))
	p := startPrometheus(t, address)
	p.fire("WsdNotReady", "WsdNotSteering")
	k.Start(t, 1)
	p.clear("WsdNotReady", "WsdKafkaUnreachable")
	require.NoError(t, first.stop())
	p.fire("WsdDown")
	s := newTroubled(t, k, flags)
	p.fire("WsdCertificateExpires")
	p.clear("WsdDown", "WsdNotSteering")
	p.only("WsdCertificateExpires") // Also while admission is off, and most of its metrics are 0.
	s.renew()
	p.clear("WsdCertificateExpires")

	p.goesWrong(s.tooFast, "WsdKernelRefusesClients", "WsdSettingsNotKept")
	p.goesWrong(s.fewFiles, "WsdNoFiles")
	p.goesWrong(s.fillMemory, "WsdMemoryFull")
	p.goesWrong(s.exhaustMemory, "WsdMemoryFull")
	p.goesWrong(s.badTokens, "WsdTokensRefused")
	p.goesWrong(func() func() { return repeat(func() { s.withoutKey(s.placed) }) }, "WsdRecordsUnplaced")
	p.goesWrong(func() func() {
		s.withoutKey(s.stopping)
		return func() {
			_, err := s.server.Skip(control.SkipRequest{Topic: s.stopping})
			require.NoError(t, err)
		}
	}, "WsdPartitionStopped")
	p.goesWrong(s.badBackend, "WsdBackendFails")
	p.goesWrong(s.publishInVain, "WsdPublishingFails", "WsdCommandsLate", "WsdKafkaUnreachable")
}

func newTroubled(t *testing.T, k *kafkatest.Cluster, flags map[string]any) *troubled {
	t.Helper()
	topics := flags["kafka.topics"].([]string)
	s := &troubled{
		rig: &rig{t: t, log: &testutil.Buffer{}}, kafka: k, producer: k.Client(t), stopping: topics[0], placed: topics[1],
		published: topics[2], certificate: filepath.Join(t.TempDir(), "certificate.pem"),
	}
	s.writeCertificate()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if s.backendFails.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, `{"result":{"data":1}}`)
	}))
	t.Cleanup(backend.Close)
	all := tokenFlags(map[string]any{
		"steering.mode": "require", "steering.pin_dir": testutil.BPFFS(t), "client.tls_listen": []string{"127.0.0.1:0"},
		"client.tls.certificates": []string{s.certificate}, "limits.memory": fmt.Sprint(troubledMemory), "client.frame_timeout": "1m",
		"client.ping_interval": "1h", // None is answered.
		"rpc.endpoint":         []string{"*=" + backend.URL}, "publish.rules": []string{"*=user"}, "publish.timeout": "1s", "commands.topic": k.Topic(t, 1),
		"file": fmt.Sprintf("routes: [{topic: %s, channel: 'stops.{key}', on_error: stop}, {topic: %s, channel: 'placed.{key}'}, {channel: '{topic}'}]\n",
			topics[0], topics[1]),
	})
	for name, value := range flags {
		all[name] = value
	}
	// Clients and Prometheus's scrapes have their files in this process too, so the limit is that of the start alone.
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }()
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: troubledFiles, Max: before.Max}))
	s.start(configure(t, all))
	s.ready()
	return s
}

// writeCertificate writes a certificate that is valid for an hour.
func (s *troubled) writeCertificate() {
	s.t.Helper()
	c := testutil.Certificate("localhost")
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	require.NoError(s.t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	require.NoError(s.t, os.WriteFile(s.certificate, text, 0o600))
}

// renew has the wsd use a certificate that is valid for a month.
func (s *troubled) renew() {
	s.t.Helper()
	file, err := dev.MakeCertificate(s.t.TempDir())
	require.NoError(s.t, err)
	text, err := os.ReadFile(file)
	require.NoError(s.t, err)
	require.NoError(s.t, os.WriteFile(s.certificate, text, 0o600))
	s.server.tls.Refresh()
}

// connect connects by the client protocol.
func (s *troubled) connect() *client {
	s.t.Helper()
	c, reply := s.login(tokenFor(s.t, "sub", "ann"))
	require.Contains(s.t, reply, `"client":`)
	return c
}

func closeAll(clients []*client) func() {
	return func() {
		for _, c := range clients {
			c.conn.Close()
		}
	}
}

// fewFiles opens connections until few files are left.
func (s *troubled) fewFiles() func() {
	var clients []*client
	for s.server.descriptors.Left() > 50 {
		clients = append(clients, s.connect())
	}
	return closeAll(clients)
}

// fillMemory has clients send messages and not end them, until nearly all of limits.memory is taken. Beyond nine tenths
// of it wsd would close some.
func (s *troubled) fillMemory() func() {
	var clients []*client
	part := make([]byte, 100_000)
	for s.server.memory.Used() < troubledMemory*82/100 {
		c, used := s.connect(), s.server.memory.Used()
		clients = append(clients, c)
		require.NoError(s.t, ws.WriteHeader(c.conn, ws.Header{Fin: true, OpCode: ws.OpText, Masked: true, Length: int64(len(part) + 1)}))
		_, err := c.conn.Write(part)
		require.NoError(s.t, err)
		s.eventually("it is held", func() bool { return s.server.memory.Used() >= used+int64(len(part)) })
	}
	return closeAll(clients)
}

// exhaustMemory has clients send such messages and come again when they are closed, so that wsd has to close those that
// hold most, again and again.
func (s *troubled) exhaustMemory() func() {
	token, part := tokenFor(s.t, "sub", "ann"), make([]byte, 100_000)
	var conns []net.Conn
	end := repeat(func() {
		conn, _, _, err := ws.Dialer{Timeout: waitMax}.Dial(s.t.Context(), "ws://"+s.server.Addresses()[0].String()+"/connection/websocket")
		if err != nil {
			s.t.Error(err)
			return
		}
		conns = append(conns, conn)
		if len(conns) > 60 { // More than there is memory for.
			conns[0].Close()
			conns = conns[1:]
		}
		// It may be closed at any time, so nothing of this has to succeed.
		_ = wsutil.WriteClientText(conn, fmt.Appendf(nil, `{"id":1,"connect":{"token":%q}}`, token))
		_, _, _ = wsutil.ReadServerData(conn)
		_ = ws.WriteHeader(conn, ws.Header{Fin: true, OpCode: ws.OpText, Masked: true, Length: int64(len(part) + 1)})
		_, _ = conn.Write(part)
	})
	return func() {
		end()
		for _, conn := range conns {
			conn.Close()
		}
	}
}

// tooFast has new connections refused in the kernel, because an operator has allowed only one a second of an address.
func (s *troubled) tooFast() func() {
	require.NoError(s.t, s.server.Steer(control.SteerChange{Setting: "source_rate", Value: "1"}))
	end := repeat(func() {
		if conn, err := net.Dial("tcp", s.server.Addresses()[0].String()); err == nil {
			conn.Close()
		}
	})
	return func() {
		end()
		require.NoError(s.t, s.server.Steer(control.SteerChange{Setting: "source_rate", Value: "0"}))
	}
}

// badTokens has clients come with tokens that are signed by another key.
func (s *troubled) badTokens() func() {
	token := signed(s.t, jwt.SigningMethodHS256, []byte("another secret, of the same length"), "", "sub", "ann")
	return repeat(func() {
		conn, _, _, err := ws.Dialer{Timeout: waitMax}.Dial(s.t.Context(), "ws://"+s.server.Addresses()[0].String()+"/ws?channel=a&token="+token)
		if err == nil {
			conn.Close()
			s.t.Error("a token with a bad signature was accepted")
		}
	})
}

// withoutKey produces records that no rule can place.
func (s *troubled) withoutKey(topic string) {
	if err := s.producer.ProduceSync(s.t.Context(), &kgo.Record{Topic: topic, Value: []byte("1")}).FirstErr(); err != nil {
		s.t.Error(err)
	}
}

// asks has a client send a command again and again until the returned function is called, whatever comes of it.
func (s *troubled) asks(command string) (end func()) {
	c := s.connect()
	require.NoError(s.t, c.conn.SetDeadline(time.Time{}))
	var reading sync.WaitGroup
	reading.Go(func() {
		for _, _, err := wsutil.ReadServerData(c.conn); err == nil; _, _, err = wsutil.ReadServerData(c.conn) {
		}
	})
	ended := repeat(func() {
		if err := wsutil.WriteClientText(c.conn, []byte(command)); err != nil {
			s.t.Error(err)
		}
	})
	return func() {
		ended()
		c.conn.Close()
		reading.Wait()
	}
}

// badBackend has a client call a backend that answers each call with an error. In the end it answers them.
func (s *troubled) badBackend() func() {
	s.backendFails.Store(true)
	s.t.Cleanup(s.asks(`{"id":9,"rpc":{"method":"m","data":1}}`))
	return func() { s.backendFails.Store(false) }
}

// publishInVain has a client publish while Kafka is away.
func (s *troubled) publishInVain() func() {
	s.kafka.Stop(s.t, 1)
	s.t.Cleanup(s.asks(fmt.Sprintf(`{"id":9,"publish":{"channel":%q,"data":1}}`, s.published)))
	return func() { s.kafka.Start(s.t, 1) }
}
