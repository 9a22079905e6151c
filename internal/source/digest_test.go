package source

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

func testDigest(l *logs) *digest { return newDigest(newLogger(l), time.Hour) }

// One line for one has everything, and one for many their number and the first names.
func TestDigestLines(t *testing.T) {
	l := &logs{}
	d := testDigest(l)
	e := &event{one: "one fell", many: "many fell", unit: topicsUnit, first: atFlush}
	fall := func(from, to int) {
		for i := from; i < to; i++ {
			name := fmt.Sprintf("t%d", i)
			d.add(e, "c", name, []any{"why", "wind"}, []any{"topic", name})
		}
	}
	fall(0, 1)
	require.Empty(t, l.String())
	d.flush()
	require.Contains(t, l.String(), `msg="one fell" topic=t0 why=wind`)
	fall(1, 1001)
	d.flush()
	require.Equal(t, 1, l.count("fell"), "the next line waits")
	d.close()
	require.Contains(t, l.String(), `msg="many fell" topics=1000 first="[t1 t2 t3 t4 t5]" why=wind`)
	require.Equal(t, 2, l.count("fell"))
	fall(1001, 1002)
	require.Contains(t, l.String(), `topic=t1001`, "after the end nothing waits")
}

// While something happens again and again, the pauses between its lines grow to the interval.
func TestDigestPauses(t *testing.T) {
	l := &logs{}
	d := testDigest(l)
	defer d.close()
	e := &event{one: "it fell", many: "they fell", unit: topicsUnit, first: atOnce}
	d.add(e, "", "a", nil, nil)
	require.Equal(t, 1, l.count("it fell"), "the first line does not wait")
	n := d.noted[noteKey{e, ""}]
	for lines := 2; lines < 20; lines++ {
		pause := n.pause
		n.next = time.Now().Add(-time.Millisecond)
		d.add(e, "", "a", nil, nil)
		require.Equal(t, lines, l.count("it fell"))
		require.Equal(t, min(2*pause, time.Hour), n.pause)
	}
	require.Equal(t, time.Hour, n.pause)
	n.next = time.Now().Add(-3 * time.Hour)
	d.add(e, "other", "b", nil, nil)
	require.NotContains(t, d.noted, n.noteKey, "what is over is forgotten")
	require.Len(t, d.order, 1)
}

// What waits is logged even if nobody flushes.
func TestDigestTimer(t *testing.T) {
	l := &logs{}
	d := testDigest(l)
	defer d.close()
	d.add(&event{one: "it fell", unit: topicsUnit, first: gathered}, "", "a", nil, nil)
	eventually(t, func() bool { return l.count("it fell") == 1 }, l.String)
}

// Partitions that fail because of one broker have a line for that, and one for the end. What fails for another reason
// moves to another line, and what is gone has none.
func TestOutages(t *testing.T) {
	l := &logs{}
	d := testDigest(l)
	o := partitionOutages(d)
	broken, denied := outageCause{1, kafka.ErrorLeader}, outageCause{1, kafka.ErrorAuth}
	troubles := make([]trouble, 1000)
	for range 3 {
		for i := range troubles {
			o.failed(&troubles[i], broken, fmt.Sprint("a/", i), errors.New("moved"))
		}
	}
	require.Equal(t, 1000, o.byCause[broken].failing)
	require.Equal(t, 2000, o.byCause[broken].repeats)
	o.byCause[broken].next = time.Now()
	o.failed(&troubles[0], broken, "a/0", errors.New("moved"))
	require.Equal(t, 1, l.count("failing=1000 repeats=2001"))
	o.left(&troubles[0])
	o.failed(&troubles[1], denied, "a/1", errors.New("denied"))
	for i := range troubles {
		o.ended(&troubles[i], fmt.Sprint("a/", i))
		o.ended(&troubles[i], fmt.Sprint("a/", i))
	}
	require.Empty(t, o.byCause)
	d.close()
	for _, line := range []string{
		`msg="reading partitions does not go on, retrying" partitions=1000 first="[a/0 a/1 a/2 a/3 a/4]" kind=not_leader`,
		`msg="reading a partition does not go on, retrying" kind=auth broker=1 err=denied`,
		`msg="reading partitions goes on" partitions=998 first="[a/2 a/3 a/4 a/5 a/6]" kind=not_leader broker=1`,
		`msg="reading a partition goes on" after=`,
	} {
		require.Equal(t, 1, l.count(line), "%s\n%s", line, l)
	}
	require.Equal(t, 5, l.count("\n"))
}

// few fails the test if the log has more lines than a reader can read.
func (l *logs) few(t testing.TB) {
	t.Helper()
	require.Less(t, l.count("\n"), 20, l.String())
}

// A broker that refuses hundreds of partitions, closes the connection and comes back costs a few lines.
func TestOneLineForManyPartitions(t *testing.T) {
	const wide, many = 300, 200
	seeds := []kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(wide, "wide")}
	for i := range many {
		seeds = append(seeds, kfake.SeedTopics(1, fmt.Sprintf("many.%d", i)))
	}
	c := mustCluster(t, seeds...)
	var refuse, deny atomic.Bool
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		if !refuse.Load() {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewFetchResponseTopic()
			st.TopicID = rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewFetchResponseTopicPartition()
				sp.Partition, sp.ErrorCode, sp.RecordBatches = rp.Partition, kerr.NotLeaderForPartition.Code, []byte{}
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	c.ControlKey(int16(kmsg.Metadata), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.MetadataRequest)
		if !deny.Load() {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewMetadataResponseTopic()
			st.Topic, st.ErrorCode = rt.Topic, kerr.TopicAuthorizationFailed.Code
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	// Without sessions, so that every fetch names what the broker refuses.
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"wide", "re:many.*"}, sessionMin: 1 << 30})
	r.waitReady(t)
	eventually(t, func() bool { return r.logs.count("topics=200 first=") == 1 }, r.logs.String)

	refuse.Store(true)
	failing := fmt.Sprintf("reading partitions does not go on, retrying\" partitions=%d first=", wide+many)
	eventually(t, func() bool { return r.logs.count(failing) == 1 }, r.logs.String)
	refuse.Store(false)
	r.waitCurrent(t)
	eventually(t, func() bool { return r.logs.count("reading partitions goes on") > 0 }, r.logs.String)

	deny.Store(true)
	eventually(t, func() bool { return r.logs.count("topics cannot be read\" topics=201 first=") == 1 }, r.logs.String)
	deny.Store(false)
	eventually(t, func() bool { return r.logs.count("topics can be read again\" topics=201 first=") == 1 }, r.logs.String)
	r.logs.few(t)

	cl := mustClient(t, c.ListenAddrs())
	for i := range many {
		deleteTopic(t, cl, fmt.Sprintf("many.%d", i))
	}
	eventually(t, func() bool { return missing(r) == many }, r.logs.String)
	for i := range many {
		createTopic(t, cl, fmt.Sprintf("many.%d", i), 1)
	}
	eventually(t, func() bool { return missing(r) == 0 }, r.logs.String)
	r.waitCurrent(t)
	r.logs.few(t)
}

func missing(r *rig) (n int) {
	for _, t := range r.Status().Topics {
		if t.State == TopicMissing {
			n++
		}
	}
	return n
}

// A loss in every partition costs a few lines, too.
func TestOneLineForManyLosses(t *testing.T) {
	b := newBench(t, Options{LogInterval: time.Hour})
	b.Source.mu.Lock()
	defer b.Source.mu.Unlock()
	for i := range int32(500) {
		p := b.Source.newPartition(b.Source.topics[0], i, Start{})
		require.NoError(t, b.Source.loseLocked(p, LossTruncated, 7, 9))
	}
	b.Source.losses.flush(b.Source)
	require.Equal(t, lossesPerInterval, b.logs.count(`msg="records are lost`))
	require.Equal(t, 1, b.logs.count(`partitions=490 first="[a/10 a/11 a/12 a/13 a/14]" losses=490 offsets=980`))
	b.logs.few(t)
}
