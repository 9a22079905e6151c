package serverstat

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tree makes a /proc of files.
func tree(t *testing.T, files map[string]string) Proc {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	return Proc{Root: root}
}

const stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 25 3 4 20 0 1 0 100 1000 10\n"

func TestProcess(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  Usage
		err   string
	}{
		{"rollup", map[string]string{"7/stat": stat, "7/smaps_rollup": "0-f ---p [rollup]\nRss:   20 kB\nPss:  9 kB\n", "7/fd/0": "", "7/fd/1": ""},
			Usage{CPU: 1750 * time.Millisecond, RSS: 20 << 10, Files: 2}, ""},
		{"status", map[string]string{"7/stat": stat, "7/status": "Name:\twsd\nVmRSS:\t  8 kB\n"},
			Usage{CPU: 1750 * time.Millisecond, RSS: 8 << 10}, ""},
		{"gone", nil, Usage{}, "CPU time of process 7"},
		{"no memory", map[string]string{"7/stat": stat, "7/status": "Name: x\n"}, Usage{}, "no line VmRSS: in status"},
		{"short", map[string]string{"7/stat": "7 (a) S 1"}, Usage{}, "too few fields"},
		{"no number", map[string]string{"7/stat": strings.Replace(stat, "150", "x", 1)}, Usage{}, "invalid syntax"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u, err := tree(t, tc.files).Process(7)
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, u)
		})
	}
}

func TestOwnProcess(t *testing.T) {
	u, err := Proc{Root: "/proc"}.Process(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, u.RSS, int64(1<<20))
	require.Positive(t, u.Files)
}

func TestCPUTime(t *testing.T) {
	before, err := CPUTime(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, before)
	for n := 0; ; n++ { // What it takes is CPU time.
		after, err := CPUTime(os.Getpid())
		require.NoError(t, err)
		if after > before {
			break
		}
		require.Less(t, n, 1_000_000)
	}
	_, err = CPUTime(1<<22 + 1) // More than the kernel ever gives.
	require.ErrorContains(t, err, "process 4194305")
}

func TestTCPBytes(t *testing.T) {
	p := tree(t, map[string]string{"net/sockstat": "sockets: used 9\nTCP: inuse 5 orphan 0 tw 0 alloc 7 mem 3\nUDP: inuse 1 mem 8\n"})
	n, err := p.TCPBytes()
	require.NoError(t, err)
	require.Equal(t, int64(3*os.Getpagesize()), n)

	_, err = tree(t, map[string]string{"net/sockstat": "UDP: inuse 1 mem 8\n"}).TCPBytes()
	require.ErrorContains(t, err, "no TCP line")
	_, err = tree(t, nil).TCPBytes()
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestHealth(t *testing.T) {
	answer := `{"status":"ok","reasons":[],"version":"1","commit":"c","steering":{"mode":"ebpf"},
		"shards":[{"connections":5,"deliveries":1},{"connections":3},{"connections":9}],
		"kafka":{"topics":[{"name":"a","state":"present"},{"name":"b","state":"missing"}]},"process":{"pid":7,"cpu_seconds":1.8}}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable) // As while starting; the answer is the same.
		_, _ = w.Write([]byte(answer))
	}))
	defer s.Close()
	h, err := ReadHealth(context.Background(), s.URL+"/")
	require.NoError(t, err)
	fewest, most := h.ConnectionsPerShard()
	require.Equal(t, []int64{3, 9}, []int64{fewest, most})
	require.Equal(t, []string{"present", "missing", ""}, []string{h.Topic("a"), h.Topic("b"), h.Topic("c")})
	require.Equal(t, "ebpf", h.Steering.Mode)

	require.True(t, h.Local(tree(t, map[string]string{"7/stat": stat, "7/status": "VmRSS: 8 kB\n"})))
	require.False(t, h.Local(tree(t, map[string]string{"7/stat": strings.Replace(stat, "150", "950", 1), "7/status": "VmRSS: 8 kB\n"})),
		"a process of another CPU time is another process")
	require.False(t, h.Local(tree(t, nil)))

	_, err = ReadHealth(context.Background(), s.URL+"/other")
	require.ErrorContains(t, err, "404")
}

func TestHealthWithoutShards(t *testing.T) {
	var h Health
	fewest, most := h.ConnectionsPerShard()
	require.Zero(t, fewest+most)
}

func TestSlabBytes(t *testing.T) {
	n, err := tree(t, map[string]string{"meminfo": "MemTotal:  9 kB\nSlab:   5 kB\n"}).SlabBytes()
	require.NoError(t, err)
	require.Equal(t, int64(5<<10), n)
	_, err = tree(t, nil).SlabBytes()
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestMetrics(t *testing.T) {
	text := "# HELP wsd_closed_total x\n# TYPE wsd_closed_total counter\nwsd_closed_total{reason=\"gone\",shard=\"0\"} 2\n" +
		"wsd_closed_total{reason=\"gone\",shard=\"1\"} 3\nwsd_closed_total{reason=\"slow\",shard=\"1\"} 1e+06\nwsd_ready 1\n"
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	}))
	defer s.Close()
	m, err := ReadMetrics(t.Context(), s.URL)
	require.NoError(t, err)
	require.InDelta(t, 1000005, m["wsd_closed_total"], 0)
	require.InDelta(t, 1, m["wsd_ready"], 0)
	require.InDelta(t, 5, m[`wsd_closed_total{reason="gone"}`], 0)
	require.Equal(t, map[string]int64{"gone": 5, "slow": 1000000}, m.Values("wsd_closed_total", "reason"))
	require.Empty(t, m.Values("wsd_closed_total", "other"))

	text = "wsd_ready one\n"
	_, err = ReadMetrics(t.Context(), s.URL)
	require.ErrorContains(t, err, `line "wsd_ready one" is no sample`)
	status = http.StatusNotFound
	_, err = ReadMetrics(t.Context(), s.URL)
	require.ErrorContains(t, err, "HTTP 404")
}
