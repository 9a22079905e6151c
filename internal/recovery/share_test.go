package recovery

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
)

// One address cannot hold all places, whatever its queries wait for, and what it held is free again however they end:
// canceled, answered, over their time, or with the Recovery.
func TestAddressHasAShare(t *testing.T) {
	r := newRig(t, 1, 0, func(o *Options) { o.WaitingMax, o.AddressMax, o.Timeout = 5, 3, time.Hour })
	r.produce(number, many("a", 10)...)
	release := r.holdReads(10)
	answers := make(chan bus.Result, 20)
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::")
	ask := func(address netip.Addr, after uint64, canceled *atomic.Bool) {
		q := r.query("a")
		q.Address, q.After, q.Canceled, q.Owner = address, after, canceled, rand.Uint64()
		r.Ask(q, func(a bus.Answer) { answers <- a.Result })
	}
	next := func() bus.Result { return await(t, answers) }
	for range 2 {
		var canceled atomic.Bool
		ask(one, 0, &canceled)
		ask(one, 1, &canceled)
		ask(one, 1<<40, &canceled)
		for range 3 {
			ask(one, 2, nil)
			require.Equal(t, bus.ResultShare, next(), "it has its share")
		}
		ask(other, 0, &canceled)
		ask(other, 1, &canceled)
		ask(other, 2, nil)
		require.Equal(t, bus.ResultOverload, next(), "all places are taken")
		canceled.Store(true)
		for range 5 {
			require.Equal(t, bus.ResultCanceled, next())
		}
	}
	for after := range uint64(3) {
		ask(one, after, nil)
	}
	release()
	for range 3 {
		require.Equal(t, bus.ResultOK, next())
	}
	ask(one, 0, nil)
	require.Equal(t, bus.ResultOK, next(), "answered queries hold no places")
	require.EqualValues(t, 6, r.Stats().Queries[bus.ResultShare].Load())
	require.Empty(t, answers)

	late := r.stepped(func(o *Options) { o.WaitingMax, o.AddressMax = 2, 1 })
	for range 2 {
		q := r.query("a")
		q.Address = one
		late.Ask(q, func(a bus.Answer) { answers <- a.Result })
		late.expire(time.Now().Add(time.Hour + waitMax))
		require.Equal(t, bus.ResultTimeout, next())
	}
	q := r.query("a")
	q.Address = one
	late.Ask(q, func(a bus.Answer) { answers <- a.Result }) // Stop answers it.
}

// An address whose many connections all ask has its share of the work, and others have theirs.
func TestAddressesTakeTurns(t *testing.T) {
	othersHaveTheirs(t, func(q *bus.Query, n, other int) {
		q.Owner, q.Address = uint64(n), netip.AddrFrom4([4]byte{192, 0, 2, byte(other)})
	})
}

// Behind a proxy, where all clients have one address, connections take turns as they do without.
func TestTurnsWithinAnAddress(t *testing.T) {
	var list []*query
	add := func(address, owner int) {
		list = append(list, &query{Query: bus.Query{Owner: uint64(owner), Address: netip.AddrFrom4([4]byte{byte(address)})}})
	}
	for _, q := range [][2]int{{1, 1}, {1, 1}, {1, 1}, {1, 2}, {1, 2}, {2, 3}, {2, 3}} {
		add(q[0], q[1])
	}
	var got [][2]int
	for _, q := range inTurn(list) {
		got = append(got, [2]int{int(q.Address.As4()[0]), int(q.Owner)})
	}
	require.Equal(t, [][2]int{{1, 1}, {2, 3}, {1, 2}, {2, 3}, {1, 1}, {1, 2}, {1, 1}}, got)
}
