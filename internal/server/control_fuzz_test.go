package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/admin"
	"wsd/internal/control"
	"wsd/internal/steering"
)

// steersNothing reads changes as the Server does, and keeps them.
type steersNothing struct {
	t     *testing.T
	steer int // Changes that were good.
}

const fuzzShards = 4

func (s *steersNothing) SteerState() (control.SteerState, error) {
	return control.SteerState{Mode: "ebpf"}, nil
}

func (s *steersNothing) Steer(change control.SteerChange) error {
	setting, shard, value, err := readChange(change, fuzzShards)
	if err != nil {
		return &control.Refusal{Status: http.StatusBadRequest, Text: err.Error()}
	}
	require.LessOrEqual(s.t, value, setting.Max)
	require.Less(s.t, int(shard), fuzzShards)
	require.Equal(s.t, setting.PerShard, change.Shard != nil)
	require.Contains(s.t, steering.AllSettings(), setting)
	s.steer++
	return nil
}

func (s *steersNothing) Skip(r control.SkipRequest) (control.SkipResult, error) {
	require.False(s.t, r.End && r.To != nil)
	return control.SkipResult{From: 1, Next: 2}, nil
}

// FuzzControl sends a body to each path of the control socket that changes something. Whatever it is, the answer is
// JSON, a refusal says why, and only what one JSON object of known members says is done. Drains meet a server that
// starts, which checks them and begins none.
func FuzzControl(f *testing.F) {
	for i, body := range []string{
		`{"setting":"weight","shard":3,"value":"200"}`, `{"setting":"policy","value":"p2c"}`, `{"setting":"ramp","value":"9ms"}`,
		`{"topic":"orders","partition":3,"to":4711}`, `{"topic":"o","end":true,"to":-1}`, `{"over_seconds":60}`, `{"rate":1e308}`,
		`{"stop":true,"rate":0.1}`, `{"over_seconds":-0}`, `{"OVER_SECONDS":1}{}`, `[]`, "null", "", `{"value":"\ud800","shard":1e2}`,
	} {
		f.Add(uint8(i), body)
	}
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		s := &steersNothing{t: t}
		idle := &Server{}
		idle.setStage(admin.StatusStarting)
		h := control.NewHandler(http.NotFoundHandler(), s, s, idle, idle, idle)
		path := []string{control.SteerPath, control.SkipPath, control.DrainPath}[which%3]
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
		var answer map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), w.Body.String())
		switch w.Code {
		case http.StatusOK:
			require.Equal(t, path == control.SteerPath, s.steer == 1)
			require.NotEqual(t, control.DrainPath, path)
			require.True(t, json.Valid([]byte(body)))
			require.LessOrEqual(t, len(body), 4<<10)
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			require.NotEmpty(t, answer["error"])
			require.Zero(t, s.steer)
		case http.StatusConflict:
			require.Equal(t, control.DrainPath, path)
			require.NotEmpty(t, answer["error"])
		default:
			t.Fatalf("status %d: %s", w.Code, w.Body.String())
		}
	})
}
