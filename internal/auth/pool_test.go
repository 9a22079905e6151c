package auth

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var address = netip.MustParseAddr("192.0.2.1")

func poolOf(t *testing.T, change func(*PoolOptions)) *Pool {
	t.Helper()
	o := PoolOptions{Verifiers: map[Purpose]*Verifier{ForConnection: verifierOf(t, nil)}, Workers: 2, Queue: 100}
	if change != nil {
		change(&o)
	}
	p := NewPool(o)
	t.Cleanup(p.Close)
	return p
}

// verify returns the answer for a token.
func (p *Pool) verifyNow(token string, from netip.Addr) (*Claims, error) {
	type answer struct {
		claims *Claims
		err    error
	}
	ch := make(chan answer, 1)
	p.Verify(ForConnection, token, from, func(c *Claims, err error) { ch <- answer{c, err} })
	a := <-ch
	return a.claims, a.err
}

func TestPool(t *testing.T) {
	p := poolOf(t, nil)
	c, err := p.verifyNow(sign(t, "RS256", claimsOf()), address)
	require.NoError(t, err)
	require.Equal(t, "alice", c.User)
	_, err = p.verifyNow("x", address)
	require.Equal(t, FaultMalformed, faultOf(err))
	require.EqualValues(t, 1, p.Stats().Results[FaultNone].Load())
	require.EqualValues(t, 1, p.Stats().Results[FaultMalformed].Load())
	require.Zero(t, p.Stats().Waiting.Load())
}

// What waits is bounded: a token too many is answered at once. Those that wait when the pool is closed are answered.
func TestPoolIsBounded(t *testing.T) {
	p := poolOf(t, func(o *PoolOptions) { o.Workers, o.Queue = 0, 3 })
	var mu sync.Mutex
	var got []Fault
	for range 5 {
		p.Verify(ForConnection, "x", address, func(_ *Claims, err error) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, faultOf(err))
		})
	}
	require.Equal(t, []Fault{FaultBusy, FaultBusy}, got)
	p.Close()
	require.Len(t, got, 5)
	require.Zero(t, p.Stats().Waiting.Load())
}

func TestFailuresAreRemembered(t *testing.T) {
	for _, dryRun := range []bool{false, true} {
		p := poolOf(t, func(o *PoolOptions) { o.FailuresMax, o.FailuresDryRun = 3, dryRun })
		clock := now
		p.failures.now = func() time.Time { return clock }
		good := sign(t, "HS256", claimsOf())
		for range 5 { // What has expired was good once: a crowd that comes back with old tokens is not locked out.
			_, err := p.verifyNow(sign(t, "HS256", claimsOf("exp", 1)), address)
			require.Equal(t, FaultExpired, faultOf(err))
		}
		for range 3 {
			_, err := p.verifyNow(good+"x", address)
			require.Error(t, err)
		}
		_, err := p.verifyNow(good, address)
		if dryRun {
			require.NoError(t, err)
		} else {
			require.Equal(t, FaultAddress, faultOf(err))
		}
		require.EqualValues(t, 1, p.Stats().OverFailure.Load())
		_, err = p.verifyNow(good, netip.MustParseAddr("192.0.2.2"))
		require.NoError(t, err, "of another address")
		_, err = p.verifyNow(good, netip.Addr{})
		require.NoError(t, err, "of none")
		clock = clock.Add(2 * failuresFor)
		_, err = p.verifyNow(good, address)
		require.NoError(t, err, "it is forgotten")
	}
}

// However many addresses fail, a bounded number is remembered.
func TestFailuresAreBounded(t *testing.T) {
	var f failures
	f.now = func() time.Time { return now }
	for i := range addressesMax + 10 {
		f.note(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	require.Len(t, f.current, addressesMax)
	require.Equal(t, 1, f.count(netip.AddrFrom4([4]byte{10, 0, 0, 1})))
}
