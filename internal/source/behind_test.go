package source

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/kafkatest"
)

// A source that waits for room on the bus is behind, also if each response had all that there was when it came.
func TestFullBusIsBehind(t *testing.T) {
	k := kafkatest.Kfake(t, 1)
	topic := k.Topic(t, 1)
	ch := channels(topic, 1)
	r := &rig{sink: newSink(t, 1, ringSize{slots: 2, bytes: 1 << 20})}
	r.read(t, 0, r.collect)
	r.interest.Add(ch[0], 0, 0)
	o := reading(k, topic)
	o.BehindMax = keepsUp
	r.start(t, o)
	cl := k.Client(t)
	produce(t, cl, topic, 0, "first")
	r.wantLog(t, ch[0], []string{"first"})
	lag := func() time.Duration { return r.Stats().Partitions()[0].LagTime }
	caughtUp := func() bool { return r.Stats().Behind() == 0 && lag() == 0 }
	eventually(t, caughtUp, func() string { return "it is behind" })

	freeze := func(frozen bool) {
		r.sink.mu.Lock()
		defer r.sink.mu.Unlock()
		r.frozen = frozen
	}
	freeze(true)
	want := []string{"first"}
	for i := 0; r.Stats().Behind() < 2*keepsUp; i++ { // Each is a response of its own, while there is room.
		require.Less(t, i, 10_000, "a full bus is not behind")
		want = append(want, fmt.Sprint(i))
		produce(t, cl, topic, 0, want[len(want)-1])
		time.Sleep(2 * time.Millisecond)
	}
	require.GreaterOrEqual(t, lag(), 2*keepsUp)
	require.Contains(t, r.Status().Topics[0].Behind, "partition 0 has records that wait for room on the bus")
	freeze(false)
	r.wantLog(t, ch[0], want)
	eventually(t, caughtUp, func() string { return "it is still behind" })
}
