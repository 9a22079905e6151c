package source

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/bus"
)

func TestGather(t *testing.T) {
	const age, longest = 2 * time.Millisecond, 500 * time.Millisecond
	type response struct {
		after          time.Duration // The fetch that brought it was made.
		records, bytes int
	}
	for name, c := range map[string]struct {
		age, wait time.Duration
		responses []response
		bytes     int
	}{
		"nothing read yet":          {age: age, bytes: 1},
		"off":                       {age: 0, responses: []response{{time.Millisecond, 1000, 100_000}, {time.Millisecond, 1000, 100_000}}, bytes: 1},
		"one by one, slowly":        {age: age, responses: []response{{time.Second, 1, 100}, {time.Second, 1, 100}}, bytes: 1},
		"in bursts":                 {age: age, responses: []response{{16 * time.Millisecond, 10, 1000}, {16 * time.Millisecond, 10, 1000}}, bytes: 1},
		"a large burst":             {age: age, responses: []response{{time.Second, 1000, 100_000}}, bytes: 1},
		"one by one, fast":          {age: age, responses: slices.Repeat([]response{{100 * time.Microsecond, 1, 100}}, 1000), bytes: 100 * 50},
		"some each time":            {age: age, responses: slices.Repeat([]response{{time.Millisecond, 20, 2000}}, 60), bytes: 100 * 50},
		"a short burst":             {age: age, responses: slices.Repeat([]response{{time.Millisecond, 20, 2000}}, 48), bytes: 1},
		"a burst for long batches":  {age: 200 * time.Millisecond, responses: append(slices.Repeat([]response{{time.Millisecond, 10, 1000}}, 70), response{130 * time.Millisecond, 1, 100}), bytes: 1},
		"long batches":              {age: 200 * time.Millisecond, wait: 200 * time.Millisecond, responses: slices.Repeat([]response{{time.Millisecond, 20, 2000}}, 200), bytes: 100 * 50},
		"tiny records":              {age: age, responses: slices.Repeat([]response{{time.Millisecond, 1000, 1990}}, 60), bytes: 99},
		"waited for":                {age: age, responses: slices.Repeat([]response{{3 * time.Millisecond, 60, 6000}}, 20), bytes: 100 * 50},
		"large records":             {age: age, responses: slices.Repeat([]response{{time.Millisecond, 20, 200_000}}, 60), bytes: 50_000},
		"larger ones than may wait": {age: age, responses: slices.Repeat([]response{{time.Millisecond, 20, 20_000_000}}, 60), bytes: 50_000},
		"fast, then slow":           {age: age, responses: append(slices.Repeat([]response{{time.Millisecond, 20, 2000}}, 60), response{50 * time.Millisecond, 1, 100}), bytes: 1},
		"fast, then nothing":        {age: age, responses: append(slices.Repeat([]response{{time.Millisecond, 20, 2000}}, 60), response{50 * time.Millisecond, 0, 0}), bytes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGatherer(&Options{BatchAge: c.age, FetchMaxBytes: 100_000, Builder: bus.BuilderOptions{RecordsMax: 50, BytesMax: 1 << 20}})
			now := time.Now()
			bytes, wait := g.next(now, longest)
			for _, r := range c.responses {
				now = now.Add(r.after)
				if r.records > 0 {
					g.took(r.records, r.bytes)
				}
				bytes, wait = g.next(now, longest)
			}
			require.Equal(t, c.bytes, bytes)
			if c.bytes > 1 {
				require.Equal(t, max(age, c.wait), wait)
			} else {
				require.Equal(t, longest, wait)
			}
		})
	}
}

// Where records come fast a fetch waits for more of them, for BatchAge; a record that comes alone is not waited with.
func TestBatchAge(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	var mu sync.Mutex
	var gathering, waiting int // Fetches of both kinds.
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case req.MinBytes == 1 && req.MaxWaitMillis > 3:
			waiting++
		case req.MinBytes > 1 && req.MaxWaitMillis <= 3:
			gathering++
		default:
			t.Errorf("a fetch that waits %d ms for %d bytes", req.MaxWaitMillis, req.MinBytes)
		}
		return nil, nil, false
	})
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, BatchAge: 3 * time.Millisecond}, "a")
	r.waitReady(t)
	n := 0
	for gathered := 0; gathered == 0; {
		produce(t, cl, "a", 0, offsets(n, n+100)...)
		n += 100
		mu.Lock()
		gathered = gathering
		mu.Unlock()
		require.Less(t, n, 1_000_000)
	}
	r.wantValues(t, "a", offsets(0, n))
	mu.Lock()
	waited := waiting
	mu.Unlock()
	eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return waiting > waited }, func() string { return "no fetch that waits for the first record" })
	produce(t, cl, "a", 0, "alone")
	r.wantValues(t, "a", append(offsets(0, n), "alone"))
}
