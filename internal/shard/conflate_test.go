package shard

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
)

func TestPolicyOf(t *testing.T) {
	list := []SlowPolicy{{"prices.eur", PolicyDisconnect}, {"prices.*", PolicyConflate}, {"exact", PolicyConflate}}
	for channel, want := range map[string]Policy{
		"prices.eur": PolicyDisconnect, "prices.usd": PolicyConflate, "prices.": PolicyConflate, "prices": PolicyDisconnect, "exact": PolicyConflate, "exact2": PolicyDisconnect,
	} {
		require.Equal(t, want, policyOf(list, channel), channel)
	}
	require.Equal(t, PolicyConflate, policyOf([]SlowPolicy{{"*", PolicyConflate}}, "any"))
	require.Equal(t, "conflate", PolicyConflate.String())
}

// The newest of each key, in the order in which they came, whatever is put and removed.
func TestMerge(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	m := &merge{newest: make(map[mergeKey]int)}
	type entry struct {
		key   mergeKey
		value string
	}
	var model []entry
	for n := range 20_000 {
		key := mergeKey{random.Uint32N(3), strconv.Itoa(random.IntN(40))}
		kept, gone := model[:0], 0
		for _, e := range model {
			if e.key == key {
				gone++
				continue
			}
			kept = append(kept, e)
		}
		model = kept
		if random.IntN(5) == 0 {
			require.Equal(t, gone, m.remove(key))
		} else {
			value := strconv.Itoa(n)
			model = append(model, entry{key, value})
			require.Equal(t, gone, m.put(merged{[]byte(value), key}))
			require.LessOrEqual(t, len(m.records), 2*len(model)+16)
		}
		var got []entry
		cost := 0
		for i := range m.records {
			if r := &m.records[i]; r.bytes != nil {
				got = append(got, entry{r.key, string(r.bytes)})
				cost += r.cost()
			}
		}
		require.Len(t, m.newest, len(model))
		require.Equal(t, cost, m.cost)
		if n%100 == 0 {
			require.Equal(t, model, append(got[:0:0], got...))
		}
	}
}

// A client that is behind when it subscribes in the middle of a batch gets nothing from before.
func TestConflateJoinInTheMiddle(t *testing.T) {
	r := newStepped(t, func(o *Options) { o.Limits.OutboundMax, o.Slow = 256<<10, []SlowPolicy{{"c.*", PolicyConflate}} })
	r.place.set("c.2", 0)
	var c *client
	r.during(func() { c = r.join("c.1"); r.join("c.2") })
	require.NoError(t, tcp(c.conn).SetReadBuffer(4096))
	behind := r.shard.slab.get(0)
	for behind.out.merge == nil {
		r.publish("c.1", `{"n":"`+strings.Repeat("x", 8<<10)+`"}`)
		r.step()
	}
	commands := r.shard.Stats().Commands.Load()
	add := func(offset uint64) {
		r.place.set("c.2", offset)
		ch, ok := r.interest.Lookup([]byte("c.2"))
		require.True(t, ok)
		r.builder.AddKeyed(ch, bus.Record{Offset: offset, Value: []byte("7"), JSON: []byte("7")}, []byte{byte(offset)}, time.Now())
	}
	add(1)
	add(2)
	c.send(ws.OpText, `{"id":9,"subscribe":{"channel":"c.2"}}`)
	for r.shard.Stats().Commands.Load() == commands {
		r.step()
	}
	add(3)
	r.seal()
	r.step()
	require.Len(t, behind.out.merge.newest, 2, "the newest of c.1, which has no keys, and one of c.2")
	require.Equal(t, "\x03", behind.out.merge.records[len(behind.out.merge.records)-1].key.key)
	require.Equal(t, PolicyConflate, r.shard.channels.list[behind.subs[1].channel].policy)
}
