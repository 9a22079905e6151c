package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// unreadResponse is the response to a client that does not read until release is closed.
type unreadResponse struct {
	*httptest.ResponseRecorder
	writing, release chan struct{}
}

func (u unreadResponse) Write(b []byte) (int, error) {
	u.writing <- struct{}{}
	<-u.release
	return u.ResponseRecorder.Write(b)
}

// Clients that do not read have no more than some complete responses kept for them, and keep the status from nobody.
func TestHealthShort(t *testing.T) {
	h := HealthHandler(func() Health {
		return Health{Status: StatusDegraded, Reasons: []string{"r"}, Shards: []Shard{{ID: 1}},
			Kafka: Kafka{Ready: true, Topics: []Topic{{Name: "x"}}}}
	})
	u := unreadResponse{writing: make(chan struct{}), release: make(chan struct{})}
	var held sync.WaitGroup
	for range longHealthMax {
		u.ResponseRecorder = httptest.NewRecorder()
		held.Go(func() { h.ServeHTTP(u, httptest.NewRequest(http.MethodGet, "/health", nil)) })
		<-u.writing
	}
	health := func() (got Health) {
		w := ask(h, http.MethodGet, "localhost", "/health")
		require.Equal(t, http.StatusOK, w.Code)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		require.Equal(t, []string{"r"}, got.Reasons)
		require.True(t, got.Kafka.Ready)
		return got
	}
	short := health()
	require.True(t, short.Short)
	require.Empty(t, short.Shards)
	require.Empty(t, short.Kafka.Topics)
	close(u.release)
	held.Wait()
	long := health()
	require.False(t, long.Short)
	require.Len(t, long.Shards, 1)
	require.Len(t, long.Kafka.Topics, 1)
}

// One response is made at a time, whatever many ask.
func TestHealthTakesTurns(t *testing.T) {
	var making, most atomic.Int32
	h := HealthHandler(func() Health {
		n := making.Add(1)
		most.Store(max(most.Load(), n))
		runtime.Gosched()
		making.Add(-1)
		return Health{Status: StatusOK}
	})
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for range 20 {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/health", nil))
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, most.Load())
}
