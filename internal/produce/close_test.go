package produce

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/kafkatest"
)

// TestCloseAnswersAll: each record that was taken is answered once, and its late outcome comes at most once, while many
// goroutines write and the Producer is closed, with Kafka there and away.
func TestCloseAnswersAll(t *testing.T) {
	for name, away := range map[string]bool{"there": false, "away": true} {
		t.Run(name, func(t *testing.T) {
			k := kafkatest.Kfake(t, 2)
			topic := k.Topic(t, 3)
			o := options(k)
			o.Timeout, o.RecordsMax = time.Second, 1000
			p := open(t, o)
			var writers sync.WaitGroup
			var taken, answered, acked atomic.Int64
			odd := errors.New("odd")
			for w := range 8 {
				writers.Go(func() {
					for i := 0; ; i++ {
						var answers, lates atomic.Int64
						r := Record{Topic: topic, Partition: int32((w + i) % 3), Value: []byte("x")}
						r.Late = func(Ack, error) {
							if lates.Add(1) > 1 {
								t.Error("two late outcomes")
							}
						}
						if i%10 == 0 {
							r.Prepare = func(*Record) error { return odd }
						}
						err := p.Produce(r, func(_ Ack, err error) {
							if answers.Add(1) > 1 {
								t.Error("two answers")
							}
							if err == nil {
								acked.Add(1)
							}
							answered.Add(1)
						})
						switch {
						case err == nil:
							taken.Add(1)
						case errors.Is(err, errFull):
							time.Sleep(time.Millisecond)
						default:
							return
						}
					}
				})
			}
			time.Sleep(100 * time.Millisecond)
			if away {
				k.Down(t)
				time.Sleep(300 * time.Millisecond)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			err := p.Close(ctx)
			writers.Wait()
			require.Equal(t, taken.Load(), answered.Load())
			require.Positive(t, acked.Load())
			if away {
				require.ErrorIs(t, err, context.DeadlineExceeded)
				k.Up(t)
			}
			require.Eventually(t, func() bool { records, bytes := p.Usage(); return records == 0 && bytes == 0 },
				kafkatest.WaitMax, time.Millisecond, "the account is given back")
		})
	}
}

// Records that are still being gathered when Close gives up are answered, and given back, like all others.
func TestCloseWhileGathering(t *testing.T) {
	k := kafkatest.Kfake(t, 1)
	topic := k.Topic(t, 1)
	k.Down(t)
	p := open(t, options(k))
	p.gathering.period = time.Hour
	const records = 100
	var answers sync.WaitGroup
	answers.Add(records)
	for i := range records {
		require.NoError(t, p.Produce(Record{Topic: topic}, func(_ Ack, err error) {
			requireKind(t, Closed, err)
			answers.Done()
		}))
		if i == gatherAfter {
			time.Sleep(50 * time.Millisecond) // They are handed over, and what follows is gathered.
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Close(ctx), context.Canceled)
	answers.Wait()
	require.Eventually(t, func() bool { records, bytes := p.Usage(); return records == 0 && bytes == 0 },
		kafkatest.WaitMax, time.Millisecond, "the account is given back")
	k.Up(t)
}
