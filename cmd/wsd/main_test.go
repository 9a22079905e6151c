package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/command"
)

const waitMax = 30 * time.Second

// asWSD in the environment makes the test's binary be wsd.
const asWSD = "TEST_BINARY_IS_WSD"

func TestMain(m *testing.M) {
	if os.Getenv(asWSD) != "" {
		main()
		return
	}
	code := m.Run()
	_ = os.RemoveAll(pinDir) // A wsd that was ended at once leaves its pins.
	os.Exit(code)
}

// pinDir keeps the pins of these tests apart from those of a wsd that serves.
const pinDir = "/sys/fs/bpf/wsd-test"

func call(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, env{stdin: strings.NewReader(""), stdout: &out, stderr: &errs})
	return code, out.String(), errs.String()
}

// Help that is read in a hurry: commands that ask the running wsd show no options but those that say which one is meant.
func TestHelpOfQuestions(t *testing.T) {
	for _, name := range []string{"health", "top", "clients", "channels", "disconnect", "steer", "drain", "kafka"} {
		code, stdout, stderr := call(name, "--help")
		require.Equal(t, command.OK, code, stderr)
		for _, option := range []string{"--client.listen=", "--client.tls-listen=", "--control.socket="} {
			require.Contains(t, stdout, option, name)
		}
		require.Less(t, strings.Count(stdout, "\n"), 60, name)
	}
}

func TestCommands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wsd.yaml")
	require.NoError(t, os.WriteFile(file, []byte("kafka: {topics: [a]}\n"), 0o600))
	socket := filepath.Join(t.TempDir(), "none.sock")
	for _, c := range []struct {
		args   string
		code   int
		stdout string
		stderr string
	}{
		{"", command.OK, "deliver records from a Kafka cluster", ""},
		{"--help", command.OK, "doctor", ""},
		{"serve --help", command.OK, "--kafka.fetch-max-wait=DURATION", ""},
		{"version", command.OK, "wsd " + version, ""},
		{"bogus", command.Usage, "", "unknown command bogus\nSee wsd --help.\n"},
		{"serve --bogus", command.Usage, "", "wsd serve --help"},
		{"top --interval 1", command.Usage, "", "--interval: \"1\" is not a duration: write a number with a unit"},
		{"serve extra", command.Usage, "", "unexpected argument extra"},
		{"serve", command.Usage, "", "kafka.topics: empty; name at least one topic"},
		{"serve --kafka.topics", command.Usage, "", "--kafka.topics: missing value"},
		{"serve --debug.shard-header=perhaps", command.Usage, "", "bool"},
		{"serve --kafka.topics=a --shards=many --log.level=loud", command.Usage, "", "log.level = loud (flag --log.level)"},
		{"serve --config " + file + "x", command.Usage, "", "no such file"},
		{"config check --config " + file, command.OK, "the configuration is valid (" + file + ")", ""},
		{"config check", command.Usage, "", "kafka.topics"},
		{"config check --config " + file + " --kafka.fetch_max_wait 1s", command.OK, "valid", ""},
		{"config show --config " + file + " --shards 3", command.OK, "shards: 3 # flag --shards", ""},
		{"config show --debug.shard-header", command.OK, "shard_header: true # flag --debug.shard-header", ""},
		{"config show --debug.shard-header=false", command.OK, "shard_header: false # flag --debug.shard-header", ""},
		{"config defaults", command.OK, "kernel_send_buffer: 32KiB", ""},
		{"health --control.socket " + socket, command.Failed, "", "cannot reach wsd"},
		{"health --client.listen 127.0.0.1:0", command.Usage, "", "does not lead to a control socket"},
		{"doctor --connections 0", command.Usage, "", "at least 1"},
		{"doctor --fix --steering.mode=off --connections=1", -1, "#!/bin/sh", ""},
		{"doctor --fix --json", command.Usage, "", "--json and --fix can't be used together"},
		{"doctor --json --steering.mode=off --connections=1", -1, `"status"`, ""},
		{"dev --dev.kafka-listen 1.2.3.4", command.Usage, "", "not HOST:PORT"},
		{"dev --dev.kafka-listen 192.0.2.1:9092 --client.listen 127.0.0.1:0", command.Failed, "", "start the demo's Kafka on 192.0.2.1:9092"},
	} {
		code, stdout, stderr := call(strings.Fields(c.args)...)
		if c.code >= 0 {
			require.Equal(t, c.code, code, "%s\n%s%s", c.args, stdout, stderr)
		}
		require.Contains(t, stdout, c.stdout, c.args)
		require.Contains(t, stderr, c.stderr, c.args)
	}
}

func TestDashes(t *testing.T) {
	require.Equal(t, []string{"serve", "--kafka.client-id=a_b", "--config=x_y.z", "--kafka.sasl.password-file", "p_q", "-h"},
		dashes([]string{"serve", "--kafka.client_id=a_b", "--config=x_y.z", "--kafka.sasl.password_file", "p_q", "-h"}))
}

// process is wsd as another process.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stderr  io.Closer
	clients string // Address, from the start line.
	admin   string // Likewise.
	socket  string
	rest    chan string // The log behind the start line, when the process has ended.
}

// start starts wsd and waits for its start line.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, socket: filepath.Join(t.TempDir(), "wsd.sock"), rest: make(chan string, 1)}
	args = append(args, "--control.socket", p.socket, "--steering.pin-dir", pinDir)
	if !slices.Contains(args, "--shutdown.drain") {
		args = append(args, "--shutdown.drain", "20s")
	}
	p.cmd = exec.CommandContext(t.Context(), os.Args[0], args...)
	isTests := func(variable string) bool { return strings.HasPrefix(variable, "WSD_TEST_") } // A fault to wsd.
	p.cmd.Env = append(slices.DeleteFunc(os.Environ(), isTests), asWSD+"=1")
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	p.stderr = stderr
	require.NoError(t, p.cmd.Start())
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		var line struct {
			Msg     string
			Clients []string
			Admin   string
		}
		text := lines.Text()
		_ = json.Unmarshal([]byte(text), &line) // Other lines have other fields.
		if line.Msg != "serving" {
			continue
		}
		p.clients, p.admin = line.Clients[0], line.Admin
		go func() {
			var rest strings.Builder
			for lines.Scan() {
				fmt.Fprintln(&rest, lines.Text())
			}
			p.rest <- rest.String()
		}()
		return p
	}
	require.Fail(t, "wsd did not start", "%v", p.cmd.Wait())
	return nil
}

// end waits for the process and returns its exit code and log.
func (p *process) end() (code int, log string) {
	p.t.Helper()
	select {
	case log = <-p.rest:
	case <-time.After(waitMax):
		require.Fail(p.t, "wsd does not end")
	}
	_ = p.cmd.Wait() // An exit code is looked at below.
	return p.cmd.ProcessState.ExitCode(), log
}

func (p *process) dial(path string) net.Conn {
	p.t.Helper()
	conn, early, _, err := ws.Dial(p.t.Context(), "ws://"+p.clients+path)
	require.NoError(p.t, err)
	require.Nil(p.t, early)
	p.t.Cleanup(func() { conn.Close() })
	require.NoError(p.t, conn.SetDeadline(time.Now().Add(waitMax)))
	return conn
}

var devArgs = []string{"dev", "--client.listen", "127.0.0.1:0", "--admin.listen=", "--dev.kafka-listen", "127.0.0.1:0", "--dev.rate", "0"}

func TestDev(t *testing.T) {
	p := start(t, append(devArgs, "--dev.stdin", "lines")...)
	conn := p.dial("/ws?channel=lines")
	require.Eventually(t, func() bool {
		code, stdout, _ := call("health", "--control.socket", p.socket)
		return code == command.OK && strings.Contains(stdout, "1 connections")
	}, waitMax, 10*time.Millisecond)
	_, err := io.WriteString(p.stdin, "one\ntwo\n")
	require.NoError(t, err)
	for _, want := range []string{"one", "two"} {
		got, _, err := wsutil.ReadServerData(conn)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	require.NoError(t, p.cmd.Process.Signal(unix.SIGTERM))
	_, _, err = wsutil.ReadServerData(conn)
	require.Equal(t, wsutil.ClosedError{Code: 1001, Reason: "shutdown"}, err)
	conn.Close()
	code, log := p.end()
	require.Equal(t, command.OK, code, log)
	require.Contains(t, log, `"msg":"stopped"`)
	require.NoFileExists(t, p.socket)
}

// A client that does not answer holds the end up to shutdown.drain; a second signal does not wait.
func TestSecondSignal(t *testing.T) {
	p := start(t, devArgs...)
	conn := p.dial("/ws?channel=trades")
	require.NoError(t, p.cmd.Process.Signal(unix.SIGINT))
	_, err := ws.ReadHeader(conn) // The close frame, which gets no answer.
	require.NoError(t, err)
	// At once it would be the same signal.
	require.Eventually(t, func() bool { return p.cmd.Process.Signal(unix.SIGTERM) != nil || len(p.rest) > 0 }, waitMax, 20*time.Millisecond)
	code, log := p.end()
	require.Equal(t, command.Failed, code)
	require.NotContains(t, log, `"msg":"stopped"`)
}

func TestTwoSignals(t *testing.T) {
	for _, test := range []struct {
		after []time.Duration // Of the signals, after the first.
		two   bool
	}{
		{nil, false},
		{[]time.Duration{0}, false},
		{[]time.Duration{sameSignal - 1}, false},
		{[]time.Duration{sameSignal}, true},
		{[]time.Duration{0, 1, sameSignal - 1, sameSignal + 1}, true},
	} {
		got := make(chan os.Signal, 8)
		times := []time.Time{time.Unix(1, 0)}
		got <- unix.SIGTERM
		for _, d := range test.after {
			got <- unix.SIGTERM
			times = append(times, time.Unix(1, 0).Add(d))
		}
		close(got)
		firsts := 0
		two := twoSignals(got, func() { firsts++ }, func() time.Time {
			now := times[0]
			times = times[1:]
			return now
		})
		require.Equal(t, test.two, two, test.after)
		require.Equal(t, 1, firsts)
	}
	none := make(chan os.Signal)
	close(none)
	require.False(t, twoSignals(none, nil, nil))
}

// A log line that nobody can read any longer does not end the process.
func TestLogReaderGone(t *testing.T) {
	p := start(t, devArgs...)
	require.NoError(t, p.stderr.Close())
	require.NoError(t, p.cmd.Process.Signal(unix.SIGTERM)) // It logs that it stops.
	_ = p.cmd.Wait()
	require.True(t, p.cmd.ProcessState.Exited(), p.cmd.ProcessState.String())
	require.Equal(t, command.OK, p.cmd.ProcessState.ExitCode())
	require.NoFileExists(t, p.socket)
}

// SO_REUSEPORT would let a second wsd share the first one's clients.
func TestStartTwice(t *testing.T) {
	for _, mode := range []string{"auto", "off"} {
		p := start(t, append(devArgs, "--steering.mode", mode)...)
		_, port, err := net.SplitHostPort(p.clients)
		require.NoError(t, err)
		for _, second := range []string{"auto", "off"} {
			for _, address := range []string{p.clients, ":" + port, "0.0.0.0:" + port} {
				code, _, stderr := call("serve", "--kafka.topics=a", "--client.listen", address, "--steering.mode", second, "--admin.listen=")
				require.Equal(t, command.Failed, code, stderr)
				require.Contains(t, stderr, "port "+port+" is in use by pid "+fmt.Sprint(p.cmd.Process.Pid))
			}
		}
		require.NoError(t, p.cmd.Process.Signal(unix.SIGTERM))
		code, log := p.end()
		require.Equal(t, command.OK, code, log)
	}
}
