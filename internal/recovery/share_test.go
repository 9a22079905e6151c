package recovery

import (
	"fmt"
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
	next := func() bus.Result {
		select {
		case result := <-answers:
			return result
		case <-time.After(waitMax):
			require.Fail(t, "no answer")
			return 0
		}
	}
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
	const many, others = 300, 10
	r := newRig(t, 1, 0, nil)
	for n := range many {
		r.produce(padded(20_000), fmt.Sprint(n))
	}
	s := r.stepped(func(o *Options) { o.ReadBytesMax, o.Concurrency = 100_000, 1 }) // A record in a block, and few are kept.
	first, rest := 0, 0
	ask := func(n int, owner uint64, last byte, answered *int) {
		q := r.query(fmt.Sprint(n))
		q.After, q.UpTo, q.Owner, q.Address = uint64(n), uint64(n)+1, owner, netip.AddrFrom4([4]byte{192, 0, 2, last})
		s.ask(q, answered)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for i, n := range random.Perm(many) {
		ask(n, uint64(i), 0, &first)
	}
	for n := range others {
		ask(n*many/others, uint64(many+n), byte(1+n), &rest)
	}
	s.pass(laneNear)
	for range (others+1)/passReads + 1 {
		s.pass(laneFar)
	}
	require.Equal(t, others, rest)
	require.Less(t, first, many/2)
	for s.pass(laneFar) || s.pass(laneNear) {
	}
	require.Equal(t, many, first)
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
