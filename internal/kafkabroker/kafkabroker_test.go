package kafkabroker

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// childVariable makes the test's binary start a broker in that directory, tell its process and wait to be killed.
const childVariable = "WSD_TEST_KAFKA_CHILD"

const waitMax = time.Minute

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		home, _ := Home()
		c, err := Start(context.Background(), Options{Home: home, Dir: dir})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(c.brokers[0].process.cmd.Process.Pid)
		select {}
	}
	os.Exit(m.Run())
}

func TestApacheKafka(t *testing.T) {
	home, ok := Home()
	if !ok {
		t.Skipf("%s is not set: make test-kafka runs this test on Apache Kafka", HomeVariable)
	}
	t.Run("restarts where it was", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*waitMax)
		defer cancel()
		c, err := Start(ctx, Options{Home: home, Dir: filepath.Join(t.TempDir(), "data")})
		require.NoError(t, err)
		defer func() { _ = c.Close() }() // It has ended when the test comes to its end.
		for _, end := range []func(int) error{c.Stop, c.Kill} {
			require.NoError(t, end(1))
			require.ErrorContains(t, end(1), "broker 1 does not run")
			_, err := net.Dial("tcp", c.Addrs()[0])
			require.Error(t, err)
			require.NoError(t, c.StartBroker(ctx, 1))
			require.ErrorContains(t, c.StartBroker(ctx, 1), "broker 1 runs already")
			require.NoError(t, c.CaughtUp(ctx))
		}
		// One that ends by itself is not taken for one that was ended.
		require.NoError(t, c.brokers[0].process.cmd.Process.Kill())
		<-c.brokers[0].process.done
		require.ErrorContains(t, c.Stop(1), "broker 1 has already ended")
	})
	t.Run("says what a broker said", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), waitMax)
		defer cancel()
		_, err := Start(ctx, Options{Home: home, Dir: t.TempDir(), Properties: map[string]string{"num.io.threads": "none"}})
		require.ErrorContains(t, err, "num.io.threads")
	})
	t.Run("ends with who started it", func(t *testing.T) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+t.TempDir())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // It was killed.
		require.NoError(t, err)
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		require.NoError(t, err)
		require.Eventually(t, func() bool { return !runs(pid) }, waitMax, 10*time.Millisecond, "process %d lives on", pid)
	})
}

// runs reports whether a process is there that has not ended: who inherits it may let it wait.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestOptionErrors(t *testing.T) {
	home := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(home, "lib"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(home, "lib", "kafka_2.13-4.jar"), nil, 0o644))
	full := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(full, "x"), nil, 0o644))
	for want, change := range map[string]func(*Options){
		"9 brokers: there may be 1 to 5": func(o *Options) { o.Brokers = 9 },
		"cannot be the address of 2":     func(o *Options) { o.Brokers, o.Listen = 2, "127.0.0.1:19092" },
		"heap of 64 MB is too small":     func(o *Options) { o.HeapMB = 64 },
		"run make kafka-fetch":           func(o *Options) { o.Home = "" },
		"has no Kafka in lib":            func(o *Options) { o.Home = full },
		"is not set":                     func(o *Options) { o.Dir = "" },
		"is not empty":                   func(o *Options) { o.Dir = full },
		`user "a;"`:                      func(o *Options) { o.Users = map[string]string{"a;": "b"} },
	} {
		o := Options{Home: home, Dir: filepath.Join(t.TempDir(), "data")}
		change(&o)
		_, err := Start(t.Context(), o)
		require.ErrorContains(t, err, want)
	}
}
