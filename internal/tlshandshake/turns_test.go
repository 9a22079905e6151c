package tlshandshake_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
	"wsd/internal/tlshandshake"
)

// gated is a pool of one worker whose handshakes compute one by one, when the test lets them.
type gated struct {
	*tlshandshake.Pool
	t     *testing.T
	began chan string // The name that the client asked for.
	goOn  chan struct{}
	steps map[string]chan tlshandshake.Step
}

func newGated(t *testing.T, pendingMax int, patience time.Duration) *gated {
	t.Helper()
	g := &gated{t: t, began: make(chan string), goOn: make(chan struct{}), steps: map[string]chan tlshandshake.Step{}}
	config := tlshandshake.NewConfig([]tls.Certificate{testutil.Certificate("a.test")}, make([][32]byte, 1))
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		g.began <- hello.ServerName
		<-g.goOn
		return nil, nil //nolint:nilnil // The configuration stays.
	}
	var err error
	g.Pool, err = tlshandshake.New(tlshandshake.Options{Workers: 1, PendingMax: pendingMax, Config: config})
	require.NoError(t, err)
	g.SetPatience(patience)
	return g
}

// begin begins the handshake of a client that asks for a name; nil: it was refused.
func (g *gated) begin(name string) *tlshandshake.Handshake {
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		defer far.Close()
		_ = tls.Client(far, &tls.Config{ServerName: name}).Handshake() // It fails when the pipe is closed.
	}()
	require.NoError(g.t, near.SetDeadline(time.Now().Add(waitMax)))
	header := make([]byte, 5)
	_, err := io.ReadFull(near, header)
	require.NoError(g.t, err)
	body := make([]byte, int(header[3])<<8+int(header[4]))
	_, err = io.ReadFull(near, body)
	require.NoError(g.t, err)
	steps := make(chan tlshandshake.Step, 1)
	g.steps[name] = steps
	return g.Begin(slices.Concat(header, body), func(s tlshandshake.Step) { steps <- s })
}

// end abandons a handshake, and returns its last step.
func (g *gated) end(name string, h *tlshandshake.Handshake) tlshandshake.Step {
	h.Abandon()
	for {
		select {
		case s := <-g.steps[name]:
			if s.Done {
				return s
			}
			h.Await(func(s tlshandshake.Step) { g.steps[name] <- s })
		case <-time.After(waitMax):
			require.Fail(g.t, "no last step")
		}
	}
}

// Handshakes begin in order while that is soon enough, and the newest first when it is not. One whose client has
// answered comes before all that have not begun.
func TestTurns(t *testing.T) {
	for patience, want := range map[time.Duration][]string{
		time.Hour: {"1.test", "2.test", "3.test"}, 0: {"3.test", "2.test", "1.test"},
	} {
		t.Run(patience.String(), func(t *testing.T) {
			g := newGated(t, 100, patience)
			all := map[string]*tlshandshake.Handshake{}
			all["answers.test"] = g.begin("answers.test")
			require.Equal(t, "answers.test", <-g.began)
			g.goOn <- struct{}{}
			require.False(t, (<-g.steps["answers.test"]).Done, "it waits for its client")

			all["first.test"] = g.begin("first.test")
			require.Equal(t, "first.test", <-g.began)
			for _, name := range []string{"1.test", "2.test", "3.test"} {
				all[name] = g.begin(name)
			}
			answers := all["answers.test"]
			answers.Await(func(s tlshandshake.Step) { g.steps["answers.test"] <- s })
			answers.Feed([]byte{23, 3, 3, 0, 3, 1, 2, 3}) // Not what comes next: it ends.
			require.Eventually(t, func() bool { return g.Waiting() == 4 }, waitMax, time.Millisecond)
			g.goOn <- struct{}{}
			last := <-g.steps["answers.test"]
			require.True(t, last.Done)
			require.Error(t, last.Err)
			for _, name := range want {
				require.Equal(t, name, <-g.began)
				g.goOn <- struct{}{}
			}
			delete(all, "answers.test")
			for name, h := range all {
				require.Error(t, g.end(name, h).Err)
			}
			turns, computing := g.Free()
			require.Equal(t, []int{1, 0}, []int{turns, computing})
			require.Zero(t, g.Stats().Pending.Load())
		})
	}
}

// While as many handshakes wait to begin as may, a new one takes the place of the oldest if that has waited for too
// long, and is refused otherwise.
func TestLateGivesWay(t *testing.T) {
	for patience, evicted := range map[time.Duration]bool{time.Hour: false, 0: true} {
		t.Run(patience.String(), func(t *testing.T) {
			g := newGated(t, 3, patience)
			all := map[string]*tlshandshake.Handshake{"0.test": g.begin("0.test")}
			require.Equal(t, "0.test", <-g.began)
			for n := 1; n <= 3; n++ {
				name := fmt.Sprint(n, ".test")
				all[name] = g.begin(name)
			}
			if evicted {
				require.NotNil(t, all["3.test"])
				s := <-g.steps["1.test"]
				require.True(t, s.Done)
				require.ErrorIs(t, s.Err, tlshandshake.ErrEvicted)
				delete(all, "1.test")
			} else {
				require.Nil(t, all["3.test"])
				delete(all, "3.test")
				require.EqualValues(t, 1, g.Stats().Results[tlshandshake.ResultRefused].Load())
			}
			// Whoever goes before its turn ends at once, and computes nothing.
			require.Error(t, g.end("2.test", all["2.test"]).Err)
			delete(all, "2.test")
			for name, h := range all { // Abandoned first, so that no other one begins.
				if name != "0.test" {
					require.Error(t, g.end(name, h).Err)
				}
			}
			g.goOn <- struct{}{}
			require.Error(t, g.end("0.test", all["0.test"]).Err)
			require.Zero(t, g.Stats().Pending.Load())
		})
	}
}

// Many clients that go at any moment, and answer or not, leave nothing: no turn, no place, no goroutine.
func TestTurnsAreGivenBack(t *testing.T) {
	p := newPool(t, 20, [][32]byte{{1}}, "one.test")
	p.SetPatience(time.Microsecond)
	hello := helloOf(t)
	var clients sync.WaitGroup
	for n := range 8 {
		random := rand.New(rand.NewPCG(1, uint64(n)))
		clients.Go(func() {
			for range 100 {
				steps := make(chan tlshandshake.Step, 1)
				report := func(s tlshandshake.Step) { steps <- s }
				h := p.Begin(append([]byte(nil), hello...), report)
				if h == nil {
					continue
				}
				switch random.IntN(3) {
				case 0:
					h.Abandon()
				case 1:
					s := <-steps
					if s.Done {
						continue
					}
					h.Await(report)
					h.Feed([]byte{23, 3, 3, 0, 3, 1, 2, 3})
					if random.IntN(2) == 0 {
						h.Abandon()
					}
				default:
					go h.Abandon()
				}
				for s := <-steps; !s.Done; s = <-steps {
					h.Await(report)
				}
			}
		})
	}
	clients.Wait()
	require.Eventually(t, func() bool { return p.Stats().Pending.Load() == 0 }, waitMax, time.Millisecond)
	turns, computing := p.Free()
	require.Equal(t, []int{1, 0}, []int{turns, computing})
	require.Zero(t, p.Waiting())
}
