package control

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// skipper notes what it is asked for.
type skipper struct {
	asked []SkipRequest
	err   error
}

func (s *skipper) Skip(r SkipRequest) (SkipResult, error) {
	s.asked = append(s.asked, r)
	return SkipResult{From: 3, Next: 5}, s.err
}

func TestSkipRoundTrip(t *testing.T) {
	path, s, to := filepath.Join(t.TempDir(), "s"), &skipper{}, int64(5)
	start(t, path, NewHandler(answer(http.StatusOK, "well"), &steerer{}, s, nil, nil, nil))
	for _, r := range []SkipRequest{{Topic: "a", Partition: 2, To: &to}, {Topic: "a"}, {Topic: "a", End: true}} {
		result, err := Skip(t.Context(), path, r)
		require.NoError(t, err)
		require.Equal(t, SkipResult{From: 3, Next: 5}, result)
		require.Equal(t, r, s.asked[len(s.asked)-1])
	}
	s.err = &Refusal{Status: http.StatusNotFound, Text: "topic a is not read"}
	_, err := Skip(t.Context(), path, SkipRequest{Topic: "a"})
	require.Equal(t, s.err, err)
}

func TestSkipBadRequests(t *testing.T) {
	for body, want := range map[string]string{
		"":                                "the request is not valid: EOF: send it like {",
		`{"topic":"a","partition":"x"}`:   "cannot unmarshal string",
		`{"topic":"a","offset":3}`:        "unknown field",
		`{"topic":"a","to":3,"end":true}`: "to and end exclude each other",
		`{"topic":"a"} 1`:                 "unexpected data after it",
		`{"topic":"` + strings.Repeat("a", 5<<10) + `"}`: "too large",
	} {
		s, w := &skipper{}, httptest.NewRecorder()
		NewHandler(answer(http.StatusOK, ""), &steerer{}, s, nil, nil, nil).ServeHTTP(w, httptest.NewRequest(http.MethodPost, SkipPath, strings.NewReader(body)))
		require.GreaterOrEqual(t, w.Code, 400)
		require.Contains(t, w.Body.String(), want)
		require.Empty(t, s.asked)
	}
}

// A wsd from before this request is named as such.
func TestSkipOtherVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	start(t, path, http.NotFoundHandler())
	_, err := Skip(t.Context(), path, SkipRequest{Topic: "a"})
	require.ErrorContains(t, err, "another version than this command")
}
