package routing

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestShardSet(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var s ShardSet
	model := make(map[ShardID]bool)
	for range 5000 {
		id := ShardID(random.IntN(ShardsMax))
		switch random.IntN(4) {
		case 0, 1:
			s.Add(id)
			model[id] = true
		case 2:
			s.Remove(id)
			delete(model, id)
		case 3:
			var other ShardSet
			other.Add(id)
			s.Union(&other)
			model[id] = true
		}
		require.Equal(t, model[id], s.Has(id))
		require.Equal(t, len(model), s.Len())
		require.Equal(t, len(model) == 0, s.Empty())
	}
	all := slices.Collect(s.All())
	require.True(t, slices.IsSorted(all))
	require.Len(t, all, len(model))
	for _, id := range all {
		require.True(t, model[id])
	}
	for id := range s.All() {
		require.Equal(t, all[0], id)
		break
	}
	independent := s
	independent.Remove(all[0])
	require.True(t, s.Has(all[0]))
}

func TestConnID(t *testing.T) {
	for _, c := range [][3]uint32{{0, 0, 0}, {255, 1<<24 - 1, 1<<24 - 1}, {1<<16 - 1, 0, 0}, {7, 1 << 24, 5}, {7, 5, 1<<24 + 9}, {1, 2, 3}} {
		id := MakeConnID(ShardID(c[0]), c[1], c[2])
		require.EqualValues(t, c[0], id.Shard())
		require.Equal(t, c[1]&(1<<24-1), id.Generation())
		require.Equal(t, c[2]&(1<<24-1), id.Slot())
	}
	require.Equal(t, "7/3.2", MakeConnID(7, 2, 3).String())
}

func TestInterest(t *testing.T) {
	table := NewInterest()
	a := table.Add("a", 1, 0)
	require.Equal(t, a, table.Add("a", 1, 0), "again")
	require.Equal(t, a, table.Add("a", 200, 9))
	b := table.Add("b", 1, 0)
	require.NotEqual(t, a, b)
	ch, ok := table.Lookup([]byte("a"))
	require.True(t, ok)
	require.Equal(t, Channel{ID: a, Name: "a", Shards: ch.Shards, SlotHint: 9}, ch)
	require.Equal(t, []ShardID{1, 200}, slices.Collect(ch.Shards.All()))
	_, ok = table.Lookup([]byte("c"))
	require.False(t, ok)
	names := table.Names(10)
	slices.Sort(names)
	require.Equal(t, []string{"a", "b"}, names)
	require.Len(t, table.Names(1), 1)
	require.Equal(t, 2, table.Len())

	table.Remove("a", 5)
	table.Remove("c", 5)
	table.Remove("a", 1)
	require.Equal(t, a, table.Add("a", 2, 0), "the id lasts as long as somebody is there")
	table.Remove("a", 2)
	table.Remove("a", 200)
	_, ok = table.Lookup([]byte("a"))
	require.False(t, ok)
	require.Greater(t, table.Add("a", 1, 0), b, "an id is given out once")
}

func TestTakeAllocatesNothing(t *testing.T) {
	table := NewInterest()
	table.Add("here", 1, 0)
	here, away := []byte("here"), []byte("away")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		table.Take(here, 1)
		table.Take(away, 1)
	}))
}

// Shards that come and go at random, while the router looks: it sees no channel under another's name or id, and in the
// end the table holds what the shards hold.
func TestInterestChurn(t *testing.T) {
	const shards, channels, rounds = 8, 20, 5000
	table := NewInterest()
	var held [shards]map[string]bool
	var shardsRunning, routing sync.WaitGroup
	var over atomic.Bool
	for id := range ShardID(shards) {
		held[id] = make(map[string]bool)
		shardsRunning.Go(func() {
			random := rand.New(rand.NewPCG(3, uint64(id)))
			for range rounds {
				name := fmt.Sprint("channel ", random.IntN(channels))
				if held[id][name] {
					table.Remove(name, id)
					delete(held[id], name)
					continue
				}
				table.Add(name, id, 0)
				held[id][name] = true
				if ch, ok := table.Lookup([]byte(name)); !ok || !ch.Shards.Has(id) {
					t.Errorf("shard %d does not find itself at %s", id, name)
				}
			}
		})
	}
	routing.Go(func() {
		last := make(map[string]ChannelID)
		byID := make(map[ChannelID]string)
		for n := 0; !over.Load(); n++ {
			name := fmt.Sprint("channel ", n%channels)
			ch, ok := table.Lookup([]byte(name))
			if !ok {
				continue
			}
			if ch.Name != name || ch.Shards.Empty() || ch.ID < last[name] || byID[ch.ID] != "" && byID[ch.ID] != name {
				t.Errorf("%s: got %+v, before %d", name, ch, last[name])
			}
			last[name], byID[ch.ID] = ch.ID, name
		}
	})
	shardsRunning.Wait()
	over.Store(true)
	routing.Wait()
	for n := range channels {
		name := fmt.Sprint("channel ", n)
		ch, ok := table.Lookup([]byte(name))
		for id := range ShardID(shards) {
			require.Equal(t, held[id][name], ok && ch.Shards.Has(id), "%s on shard %d", name, id)
		}
	}
}

// The order that Interest asks for: the router stores its position before it looks up, a shard adds itself before it
// reads the position. Then every record is at or before the position that the subscriber was told, or was found wanted.
func TestNothingBetween(t *testing.T) {
	const rounds = 20_000
	for range rounds {
		table := NewInterest()
		var position atomic.Int64
		var told int64
		var wanted [3]bool
		var running sync.WaitGroup
		running.Go(func() {
			for offset := range int64(len(wanted)) {
				position.Store(offset + 1)
				_, wanted[offset] = table.Take([]byte("a"), uint64(offset)+1)
			}
		})
		running.Go(func() {
			table.Add("a", 0, 0)
			told = position.Load()
		})
		running.Wait()
		for offset := range int64(len(wanted)) {
			if offset+1 > told {
				require.True(t, wanted[offset], "record %d was routed to nobody, the subscriber was told %d", offset+1, told)
			}
		}
	}
}

func BenchmarkTake(b *testing.B) {
	away := []byte("nobody's")
	for _, channels := range []int{10, 100_000} {
		table := NewInterest()
		var names [][]byte
		for n := range channels {
			names = append(names, fmt.Appendf(nil, "channel.%d", n))
			table.Add(string(names[n]), ShardID(n%8), 0)
		}
		for _, c := range []struct {
			name string
			look func(n int) []byte
		}{
			{"hit", func(n int) []byte { return names[n*7919%channels] }},
			{"miss", func(int) []byte { return away }},
		} {
			b.Run(fmt.Sprintf("%s/channels=%d", c.name, channels), func(b *testing.B) {
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					table.Take(c.look(n), uint64(n))
				}
			})
		}
	}
}

func BenchmarkAddRemove(b *testing.B) {
	table := NewInterest()
	var shard atomic.Int32
	b.RunParallel(func(pb *testing.PB) {
		id := ShardID(shard.Add(1))
		for n := 0; pb.Next(); n++ {
			name := fmt.Sprint("channel.", n%1000)
			table.Add(name, id, 0)
			table.Remove(name, id)
		}
	})
}

func TestClientID(t *testing.T) {
	id := MakeConnID(3, 2, 1)
	ids := NewClientIDs([16]byte{1})
	client := ids.Of(id)
	text := client.Append(nil)
	require.Equal(t, fmt.Sprintf("%x", client[:]), string(text))
	parsed, ok := ParseClientID(text)
	require.True(t, ok)
	require.Equal(t, client, parsed)
	got, ok := ids.Conn(parsed)
	require.True(t, ok)
	require.Equal(t, id, got)
	_, ok = NewClientIDs([16]byte{2}).Conn(parsed)
	require.False(t, ok, "another process")
	_, ok = (*ClientIDs)(nil).Conn(parsed)
	require.False(t, ok)
	for _, bad := range []string{"", "0", string(text[1:]), string(text) + "0", "FEDCBA98765432100003000002000001", "xedcba98765432100003000002000001"} {
		_, ok := ParseClientID([]byte(bad))
		require.False(t, ok, bad)
	}
	conn, ok := ConnChannel(id).Conn()
	require.True(t, ok)
	require.Equal(t, id, conn)
	_, ok = ChannelID(1).Conn()
	require.False(t, ok)
	require.Zero(t, testing.AllocsPerRun(10, func() { ParseClientID(text) }))
}

// Who knows the id of one connection knows nothing about that of the next: ids have no part in common, and an id with
// one bit changed is nobody's.
func TestClientIDIsNotGuessable(t *testing.T) {
	ids := NewClientIDs([16]byte{1, 2, 3})
	differ := 0
	const n = 1000
	for slot := range uint32(n) {
		a, b := ids.Of(MakeConnID(0, 1, slot)), ids.Of(MakeConnID(0, 1, slot+1))
		for i := range a {
			differ += bits.OnesCount8(a[i] ^ b[i])
		}
		for bit := range 128 {
			changed := a
			changed[bit/8] ^= 1 << (bit % 8)
			_, ok := ids.Conn(changed)
			require.False(t, ok)
		}
	}
	require.InDelta(t, 64, float64(differ)/n, 2, "bits that differ")
}

// Reserved names are apart from channels.
func TestReserved(t *testing.T) {
	table := NewInterest()
	user := string(AppendUser(nil, []byte("ann")))
	for _, name := range []string{Everybody, user} {
		require.True(t, Reserved(name))
		require.False(t, utf8.ValidString(name), "no channel can have it")
		table.Add(name, 0, 0)
	}
	require.False(t, Reserved("everybody"))
	require.False(t, Reserved(""))
	table.Add("a", 0, 0)
	require.Equal(t, 1, table.Len())
	require.Equal(t, []string{"a"}, table.Names(10))
	table.Remove(user, 0)
	table.Remove(user, 0)
	require.Equal(t, 1, table.Len())
	_, ok := table.Lookup([]byte(Everybody))
	require.True(t, ok)
}

// What was noted lasts while the channel has subscribers, and for a while after that, under the same epoch.
func TestNoted(t *testing.T) {
	table := NewInterest()
	noted := func(epoch string) []uint64 {
		since, last, ok := table.Noted("a", epoch)
		if !ok {
			return nil
		}
		return []uint64{since, last}
	}
	table.Begin("a", "e", 5)
	require.Nil(t, noted("e"), "nobody is there")
	_, ok := table.Take([]byte("a"), 4)
	require.False(t, ok)

	first := table.Add("a", 1, 0)
	require.Nil(t, noted("e"), "not begun")
	require.Nil(t, noted(""))
	table.Begin("a", "e", 5)
	require.Equal(t, []uint64{5, 0}, noted("e"))
	ch, ok := table.Take([]byte("a"), 7)
	require.True(t, ok)
	require.Equal(t, first, ch.ID)
	table.Add("a", 2, 0)
	table.Begin("a", "e", 9)
	require.Equal(t, []uint64{5, 7}, noted("e"), "the first counts")
	table.Take([]byte("a"), 2)
	require.Equal(t, []uint64{5, 7}, noted("e"), "a record of another partition takes nothing back")
	require.Nil(t, noted("other"))

	table.Remove("a", 1)
	table.Remove("a", 2)
	require.Zero(t, table.Len())
	require.Empty(t, table.Names(9))
	_, ok = table.Lookup([]byte("a"))
	require.False(t, ok)
	_, ok = table.Take([]byte("a"), 12)
	require.False(t, ok, "nobody wants it")
	table.Sweep()
	require.Equal(t, []uint64{5, 12}, noted("e"), "it is still noted")
	require.Greater(t, table.Add("a", 1, 0), first)
	table.Sweep()
	table.Sweep()
	require.Equal(t, []uint64{5, 12}, noted("e"), "who is there is not swept")

	table.Begin("a", "other", 3)
	require.Equal(t, []uint64{3, 12}, noted("other"), "a last record of another epoch can only make it look as if something came")
	require.Nil(t, noted("e"))
	table.Remove("a", 1)
	table.Sweep()
	table.Sweep()
	require.Nil(t, noted("other"))
}

func TestLeftIsBounded(t *testing.T) {
	table := NewInterest()
	const many = 3 * stripes * leftMax
	for n := range many {
		name := fmt.Sprint("channel.", n)
		table.Add(name, 0, 0)
		table.Begin(name, "e", 1)
		table.Remove(name, 0)
	}
	remembered := 0
	for i := range table.stripes {
		require.Len(t, table.stripes[i].channels, table.stripes[i].left)
		remembered += table.stripes[i].left
	}
	require.LessOrEqual(t, remembered, stripes*leftMax)
	require.Zero(t, table.Len())
	table.Add("silent", 0, 0)
	table.Remove("silent", 0)
	table.Sweep()
	table.Sweep()
	for i := range table.stripes {
		require.Empty(t, table.stripes[i].channels)
	}
}

// A shard that adds itself and then finds nothing noted after some offset is given whatever comes after that offset.
func TestNothingUnnoted(t *testing.T) {
	const rounds = 20_000
	for range rounds {
		table := NewInterest()
		table.Add("a", 1, 0)
		table.Begin("a", "e", 1)
		var wanted [3]bool
		var last uint64
		var running sync.WaitGroup
		running.Go(func() {
			for n := range wanted {
				ch, _ := table.Take([]byte("a"), uint64(n)+2)
				wanted[n] = ch.Shards.Has(0)
			}
		})
		running.Go(func() {
			table.Add("a", 0, 0)
			_, last, _ = table.Noted("a", "e")
		})
		running.Wait()
		for n := range wanted {
			if uint64(n)+2 > last {
				require.True(t, wanted[n], "record %d was not given to the shard that found %d to be the last", n+2, last)
			}
		}
	}
}
