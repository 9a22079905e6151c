package recovery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/bus"
)

// TestOldest: records older than a query asks for are as if they were gone, for the last ones and for the next ones.
func TestOldest(t *testing.T) {
	for name, kept := range kept {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, kept, nil)
			began := time.UnixMilli(1_700_000_000_000)
			for i := range 10 { // One second apart, other keys in between.
				for _, key := range []string{"a", "b"} {
					record := &kgo.Record{Topic: "k", Key: []byte(key), Value: []byte(number(i)),
						Timestamp: began.Add(time.Duration(i) * time.Second)}
					require.NoError(t, r.client.ProduceSync(t.Context(), record).FirstErr())
					r.note(record)
					r.eventually("read", func() bool { return r.position(key) > uint64(record.Offset) })
				}
			}
			q := r.query("a")
			all := r.log[q.Channel]
			require.Len(t, all, 10)
			q.Oldest = began.Add(7 * time.Second).UnixMilli()
			require.Equal(t, bus.ResultGone, r.ask(q).Result, "the client has missed older ones")
			q.After = all[6].Offset
			require.Equal(t, all[7:], r.ask(q).Records)
			q.After, q.Kind = 0, bus.QueryLast
			require.Equal(t, all[7:], r.ask(q).Records)
			q.Oldest = began.Add(time.Hour).UnixMilli()
			a := r.ask(q)
			require.Equal(t, bus.ResultOK, a.Result)
			require.Empty(t, a.Records)
		})
	}
}
