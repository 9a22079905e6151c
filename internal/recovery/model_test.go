package recovery

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/bus"
)

// kept is how much the source keeps in memory: everything, little, or nothing, so that Kafka is asked each time.
var kept = map[string]int{"memory": 64 << 20, "little memory": 8 << 10, "Kafka": 0}

// transact produces records of random keys in a transaction, and commits it or not.
func (r *rig) transact(random *rand.Rand, keys, records int) {
	r.t.Helper()
	require.NoError(r.t, r.client.BeginTransaction())
	var list []*kgo.Record
	for range 1 + random.IntN(records) {
		key := fmt.Sprint(random.IntN(keys))
		pad := strings.Repeat("x", random.IntN(100))
		list = append(list, &kgo.Record{
			Topic: "k", Key: []byte(key), Value: fmt.Appendf(nil, `{"n":%d,"pad":%q}`, random.IntN(1000), pad),
		})
	}
	require.NoError(r.t, r.client.ProduceSync(r.t.Context(), list...).FirstErr())
	commit := random.IntN(3) > 0
	require.NoError(r.t, r.client.EndTransaction(r.t.Context(), kgo.TransactionEndTry(commit)))
	for _, rec := range list {
		if commit {
			r.note(rec)
		}
		r.eventually("read", func() bool { return r.position(string(rec.Key)) > uint64(rec.Offset) })
	}
}

// transactional has the rig produce in transactions, compressed in one way or another.
func (r *rig) transactional(n int) {
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.ZstdCompression(), kgo.SnappyCompression()}
	r.client = r.newClient(kgo.TransactionalID("tx"), kgo.ProducerBatchCompression(codecs[n%3]))
}

// Random queries while records come, against what the test knows it has produced. Some records are of transactions that
// are aborted, and those of other channels are between.
func TestAnswers(t *testing.T) {
	const keys, rounds = 7, 80
	for name, kept := range kept {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, kept, func(o *Options) { o.BytesMax = 3000 })
			r.transactional(len(name))
			random := rand.New(rand.NewPCG(9, uint64(kept)))
			for range rounds {
				r.transact(random, keys, 30)
				var running sync.WaitGroup
				for range random.IntN(20) {
					q := r.query(fmt.Sprint(random.IntN(keys)))
					if q.UpTo == 0 {
						continue
					}
					q.Kind, q.RecordsMax, q.Owner = bus.QueryKind(random.IntN(2)), 1+random.IntN(25), random.Uint64N(3)
					q.BytesMax = random.IntN(2) * random.IntN(4000)
					q.CountMax = random.IntN(2) * random.IntN(40)
					q.UpTo -= random.Uint64N(min(q.UpTo, 30))
					q.After = random.Uint64N(q.UpTo + 1)
					if random.IntN(2) == 0 {
						q.After = q.UpTo - min(q.UpTo, random.Uint64N(60))
					}
					running.Go(func() {
						if err := r.check(q, r.ask(q)); err != nil {
							t.Error(err)
						}
					})
				}
				running.Wait()
				require.False(t, t.Failed())
			}
			st := r.Stats()
			t.Logf("%d answers, %d reads, %d fetches, %d passes", st.Queries[bus.ResultOK].Load()+st.Queries[bus.ResultLimit].Load(),
				st.Reads.Load(), st.Fetches.Load(), st.Passes.Load())
			if name == "memory" {
				require.Zero(t, st.Reads.Load())
			} else {
				require.Positive(t, st.Reads.Load())
			}
		})
	}
}

// stream asks for a channel portion by portion, from random limits, until it has all up to an offset, or until an answer
// is a failure, which it returns.
func (r *rig) stream(random *rand.Rand, q bus.Query) (list []bus.Record, result bus.Result) {
	for q.After < q.UpTo {
		q.RecordsMax, q.BytesMax = 1+random.IntN(40), random.IntN(2)*random.IntN(5000)
		a := r.ask(q)
		if a.Result != bus.ResultOK {
			return list, a.Result
		}
		if !a.More && a.Through != q.UpTo || a.Through <= q.After {
			r.t.Errorf("%+v: through %d, more %v", q, a.Through, a.More)
			return list, a.Result
		}
		list = append(list, a.Records...)
		q.After = a.Through
	}
	return list, bus.ResultOK
}

// Clients at random offsets ask portion by portion while records come and the log is cut. What they get is the stream
// without a gap, and if they cannot get all of it they are told.
func TestPortions(t *testing.T) {
	const keys, rounds, clients = 5, 25, 12
	for name, kept := range kept {
		for _, memory := range []int{8 << 20, 3000} { // Enough for all answers, or for a part of one.
			t.Run(fmt.Sprint(name, memory), func(t *testing.T) {
				r := newRig(t, 2, kept, func(o *Options) { o.ReadBytesMax = memory })
				r.transactional(len(name))
				random := rand.New(rand.NewPCG(11, uint64(kept+memory)))
				start := make(map[int32]int64)
				for round := range rounds {
					r.transact(random, keys, 60)
					if partition := int32(round % 2); round > rounds/2 && random.IntN(3) == 0 {
						q := r.query(fmt.Sprint(random.IntN(keys)))
						start[partition] += random.Int64N(max(1, (int64(q.UpTo)-start[partition])/4))
						r.deleteRecords(partition, start[partition])
					}
					var running sync.WaitGroup
					for range clients {
						q := r.query(fmt.Sprint(random.IntN(keys)))
						if q.UpTo == 0 {
							continue
						}
						q.After, q.Owner = random.Uint64N(q.UpTo), random.Uint64()
						random := rand.New(rand.NewPCG(random.Uint64(), 1))
						running.Go(func() {
							got, result := r.stream(random, q)
							want := offsetsOf(r.held(q.Channel, q.After, q.UpTo))
							switch fine := fmt.Sprint(want) == fmt.Sprint(offsetsOf(got)); {
							case result == bus.ResultOK && fine:
							case result == bus.ResultGone && round > rounds/2 && q.After < uint64(max(start[0], start[1])):
							default:
								t.Errorf("%+v: %v with %v, want %v", q, result, offsetsOf(got), want)
							}
						})
					}
					running.Wait()
					require.False(t, t.Failed())
				}
			})
		}
	}
}
