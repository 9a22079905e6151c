package control

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// steerer answers what it is made of, and notes what it is asked for.
type steerer struct {
	mu       sync.Mutex
	state    SteerState
	stateErr error
	steerErr error
	asked    []SteerChange
}

func (s *steerer) SteerState() (SteerState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.stateErr
}

func (s *steerer) Steer(change SteerChange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, change)
	if s.steerErr == nil {
		s.state.Policy = change.Value
	}
	return s.steerErr
}

// send asks the handler without a socket.
func send(s *steerer, method, path, body string) (code int, answered string) {
	w := httptest.NewRecorder()
	NewHandler(answer(http.StatusOK, "well"), s, nil, nil, nil, nil).ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func TestHandlerPaths(t *testing.T) {
	for _, c := range []struct {
		method, path string
		code         int
		body         string
	}{
		{http.MethodGet, "/health", http.StatusOK, "well"},
		{http.MethodGet, "/steering", http.StatusOK, `"mode":"ebpf"`},
		{http.MethodPost, "/health", http.StatusMethodNotAllowed, ""},
		{http.MethodPut, "/steering", http.StatusMethodNotAllowed, ""},
		{http.MethodDelete, "/steering", http.StatusMethodNotAllowed, ""},
		{http.MethodGet, "/", http.StatusNotFound, ""},
		{http.MethodGet, "/steering/weight", http.StatusNotFound, ""},
	} {
		code, body := send(&steerer{state: SteerState{Mode: "ebpf"}}, c.method, c.path, "")
		require.Equal(t, c.code, code, "%s %s", c.method, c.path)
		require.Contains(t, body, c.body, "%s %s", c.method, c.path)
	}
}

func TestHandlerBadChanges(t *testing.T) {
	const valid = `{"setting":"policy","value":"p2c"}`
	for _, c := range []struct {
		body string
		code int
		want string
	}{
		{"", http.StatusBadRequest, "EOF"},
		{"weight=3", http.StatusBadRequest, "invalid character"},
		{`{"setting":"policy"`, http.StatusBadRequest, "unexpected EOF"},
		{`["policy"]`, http.StatusBadRequest, "cannot unmarshal array"},
		{`{"setting":"weight","shard":"3","value":"1"}`, http.StatusBadRequest, "cannot unmarshal string"},
		{`{"setting":"weight","shard":3,"value":200}`, http.StatusBadRequest, "cannot unmarshal number"},
		{`{"setting":"policy","value":"p2c","force":true}`, http.StatusBadRequest, `unknown field \"force\"`},
		{valid + valid, http.StatusBadRequest, "unexpected data after it"},
		{`{"setting":"` + strings.Repeat("x", changeMax) + `"}`, http.StatusRequestEntityTooLarge, "the change is too large"},
		{valid + strings.Repeat(" ", changeMax), http.StatusRequestEntityTooLarge, "the change is too large"},
	} {
		s := &steerer{}
		code, body := send(s, http.MethodPost, SteerPath, c.body)
		require.Equal(t, c.code, code, body)
		require.Contains(t, body, `{"error":"the change `)
		require.Contains(t, body, c.want)
		require.Contains(t, body, "send it like")
		require.Empty(t, s.asked)
	}
}

func TestSteerRoundTrip(t *testing.T) {
	three := 3
	s := &steerer{state: SteerState{
		Mode: "ebpf-pinned", PinPath: "/pins", Policy: "hash", Shards: []SteerShard{{ID: 3, Load: 5, Weight: 7, Drain: true, StalledFor: 1.25}},
		Settings: []SteerSetting{{Name: "weight", Shard: &three, Value: 7, Text: "7", Configured: "100", InForce: "7", Changed: true}, {Name: "ramp"}},
		Exempt:   []string{"10.0.0.0/8"}, Ends: []SteerCount{{"placed", 1}}, Notes: []SteerCount{{"skipped_stalled", 2}},
	}}
	path := socketPath(t)
	start(t, path, NewHandler(answer(http.StatusOK, "well"), s, nil, nil, nil, nil))
	got, err := Steering(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, s.state, got)

	for _, change := range []SteerChange{{Setting: "policy", Value: "p2c"}, {Setting: "weight", Shard: &three, Value: "5"}} {
		got, err := Steer(t.Context(), path, change)
		require.NoError(t, err)
		require.Equal(t, change.Value, got.Policy, "what is afterwards")
		require.Equal(t, change, s.asked[len(s.asked)-1])
	}
	_, ok, err := Health(t.Context(), path)
	require.NoError(t, err)
	require.True(t, ok)
}

func TestSteerRefused(t *testing.T) {
	s := &steerer{state: SteerState{Mode: "hash"}}
	path := socketPath(t)
	start(t, path, NewHandler(answer(http.StatusOK, "well"), s, nil, nil, nil, nil))
	for _, status := range []int{http.StatusBadRequest, http.StatusConflict} {
		s.steerErr = fmt.Errorf("wrapped: %w", &Refusal{Status: status, Text: "no"})
		_, err := Steer(t.Context(), path, SteerChange{Setting: "policy", Value: "p2c"})
		require.Equal(t, &Refusal{Status: status, Text: "wrapped: no"}, err)
		require.EqualError(t, err, "wrapped: no")
	}
	s.steerErr = errors.New("write map policy: bad file descriptor")
	_, err := Steer(t.Context(), path, SteerChange{})
	require.Equal(t, &Refusal{Status: http.StatusInternalServerError, Text: s.steerErr.Error()}, err)
	s.stateErr = errors.New("read map policy: bad file descriptor")
	_, err = Steering(t.Context(), path)
	require.Equal(t, &Refusal{Status: http.StatusInternalServerError, Text: s.stateErr.Error()}, err)
}

// What answers otherwise than NewHandler is a wsd of another version, or no wsd at all.
func TestSteeringOtherVersion(t *testing.T) {
	for name, handler := range map[string]http.Handler{
		"status 404": http.NotFoundHandler(), "no mode": answer(http.StatusOK, `{"status":"ok","shards":[]}`), "invalid character": answer(http.StatusOK, "well"),
		"status 500": answer(http.StatusInternalServerError, "{}"),
	} {
		path := socketPath(t)
		start(t, path, handler)
		_, err := Steering(t.Context(), path)
		require.ErrorContains(t, err, name)
		require.ErrorContains(t, err, "the running wsd may have another version than this command")
	}
	_, err := Steer(t.Context(), socketPath(t), SteerChange{})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// A change whose sender goes away is no change.
func TestHandlerHalfBody(t *testing.T) {
	s := &steerer{}
	w := httptest.NewRecorder()
	body := io.MultiReader(strings.NewReader(`{"setting":`), failing{})
	NewHandler(answer(http.StatusOK, ""), s, nil, nil, nil, nil).ServeHTTP(w, httptest.NewRequest(http.MethodPost, SteerPath, body))
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Empty(t, s.asked)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
