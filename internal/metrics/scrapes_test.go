package metrics

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// One scrape is gathered at a time, some wait, and more are refused. One that is being sent is in nobody's way.
func TestScrapesTakeTurns(t *testing.T) {
	begun, release := make(chan struct{}, scrapesMax), make(chan struct{})
	var gathering, most atomic.Int32
	h := buffered(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		most.Store(max(most.Load(), gathering.Add(1))) // Only one is here at a time.
		begun <- struct{}{}
		<-release
		gathering.Add(-1)
		_, _ = w.Write([]byte("figures"))
	}))
	codes := make(chan int, 2*scrapesMax)
	var scrapes sync.WaitGroup
	for range 2 * scrapesMax {
		scrapes.Go(func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			codes <- w.Code
		})
	}
	<-begun
	for range scrapesMax {
		require.Equal(t, http.StatusServiceUnavailable, <-codes)
	}
	close(release)
	scrapes.Wait()
	for range scrapesMax {
		require.Equal(t, http.StatusOK, <-codes)
	}
	require.EqualValues(t, 1, most.Load())
}
