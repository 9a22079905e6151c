package source

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/bus"
	"wsd/internal/route"
	"wsd/internal/routing"
)

// messages keeps what is put on the bus as messages, by the id of the channel.
type messages struct {
	*rig
	got chan string // One per record of any segment: "channel value" or "#id value".
}

func startMessages(t testing.TB, shards int, o Options) *messages {
	t.Helper()
	m := &messages{rig: &rig{sink: newSink(t, shards, ringSize{slots: 64, bytes: 1 << 20})}, got: make(chan string, 1000)}
	for id := range shards {
		m.read(t, routing.ShardID(id), func(b *bus.Batch) {
			if id != 0 {
				return
			}
			for _, seg := range b.Segments {
				for _, r := range seg.Records {
					name := seg.Name
					if conn, ok := seg.Channel.Conn(); ok {
						name = "#" + conn.String()
					} else if name == "" {
						name = fmt.Sprintf("*%d", seg.Channel)
					}
					m.got <- name + " " + string(r.Value)
				}
			}
		})
	}
	m.start(t, o)
	return m
}

func (m *messages) next(t testing.TB) string {
	t.Helper()
	select {
	case s := <-m.got:
		return s
	case <-time.After(waitMax):
		require.Fail(t, "no record came", m.logs.String())
		return ""
	}
}

func header(name, value string) []kgo.RecordHeader {
	return []kgo.RecordHeader{{Key: name, Value: []byte(value)}}
}

// Headers send a record to channels, one connection, a user and everybody, in the order of the records; each is counted
// by what chose its place.
func TestOverrides(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	o := &route.Overrides{Channels: "wsd-channels", Client: "wsd-client", User: "wsd-user", Everybody: "wsd-broadcast", ChannelsMax: 4}
	r := startMessages(t, 2, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Overrides: o, ClientIDs: routing.NewClientIDs([16]byte{9})})
	r.waitReady(t)
	_, _, known := r.Position("a")
	require.True(t, known, "records may name the channel, but only those of this partition")
	r.interest.Add("a", 0, 0)
	r.interest.Add("b", 0, 0)
	r.interest.Add("c", 0, 0)
	r.interest.Add("c", 1, 0)
	ann := r.interest.Add(string(routing.AppendUser(nil, []byte("ann"))), 0, 0)
	all := r.interest.Add(routing.Everybody, 0, 0)
	r.interest.Add(routing.Everybody, 1, 0)
	conn := routing.MakeConnID(0, 3, 5)
	id := func(process byte, conn routing.ConnID) string {
		return string(routing.NewClientIDs([16]byte{process}).Of(conn).Append(nil))
	}
	rec := func(value string, headers []kgo.RecordHeader) *kgo.Record {
		return &kgo.Record{Topic: "a", Value: []byte(value), Headers: headers}
	}
	produceRecords(t, cl,
		rec("1", nil),
		rec("2", header("wsd-channels", "b, c,nobody")),
		rec("3", header("wsd-client", id(9, conn))),
		rec("4", nil),
		rec("5", header("wsd-client", id(8, conn))),                        // Another process.
		rec("6", header("wsd-client", id(9, routing.MakeConnID(2, 3, 5)))), // No such shard.
		rec("7", header("wsd-client", "x")),
		rec("8", header("wsd-user", "ann")),
		rec("9", header("wsd-user", "bob")), // Not here.
		rec("10", header("wsd-broadcast", "true")),
		rec("11", header("wsd-user", "")),
		rec("12", nil),
	)
	for _, want := range []string{
		"a 1", "b 2", "c 2", "#" + conn.String() + " 3", "a 4", fmt.Sprintf("*%d 8", ann), fmt.Sprintf("*%d 10", all), "a 12",
	} {
		require.Equal(t, want, r.next(t))
	}
	counts := func(by route.By) [3]uint64 {
		n := &r.Stats().Routed[by]
		return [3]uint64{n.Broadcast.Load(), n.Targeted.Load(), n.Unwanted.Load()}
	}
	eventually(t, func() bool { return r.topic(0).Records.Load() == 12 }, func() string { return "not all read" })
	require.Equal(t, [3]uint64{0, 3, 0}, counts(route.ByRule))
	require.Equal(t, [3]uint64{1, 1, 1}, counts(route.ByChannels))
	require.Equal(t, [3]uint64{0, 1, 2}, counts(route.ByConnection))
	require.Equal(t, [3]uint64{0, 1, 1}, counts(route.ByUser))
	require.Equal(t, [3]uint64{1, 0, 0}, counts(route.ByEverybody))
	require.EqualValues(t, 1, r.topic(0).Unplaced[route.UnplacedHeader].Load())
	require.EqualValues(t, 1, r.topic(0).Unplaced[route.UnplacedMissing].Load())
}

// Rules by key and field, one that drops, and the channel of one that cannot place a record.
func TestRules(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Routes: []Route{
		{Key: "noise", Drop: true},
		{Fields: []route.Condition{{Name: "type", Value: "order"}}, Channel: "orders.{json.id}", OnError: route.OnError{Action: route.ErrorChannel, Channel: "lost"}},
		{Key: "re:k.*", Channel: "{key}"},
	}}, "orders.7", "lost", "k1")
	produceRecords(t, cl,
		&kgo.Record{Topic: "a", Key: []byte("noise"), Value: []byte(`{"type":"order","id":7}`)},
		&kgo.Record{Topic: "a", Value: []byte(`{"type":"order","id":7}`)},
		&kgo.Record{Topic: "a", Value: []byte(`{"type":"order"}`)},
		&kgo.Record{Topic: "a", Key: []byte("k1"), Value: []byte(`{"n":1}`)},
		&kgo.Record{Topic: "a", Key: []byte("x"), Value: []byte(`{"n":2}`)},
	)
	r.wantValues(t, "orders.7", []string{`{"type":"order","id":7}`})
	r.wantValues(t, "lost", []string{`{"type":"order"}`})
	r.wantValues(t, "k1", []string{`{"n":1}`})
	eventually(t, func() bool { return r.topic(0).Records.Load() == 5 }, func() string { return "not all read" })
	ts := r.topic(0)
	require.EqualValues(t, 1, ts.Dropped.Load())
	require.EqualValues(t, 1, ts.Unplaced[route.UnplacedMissing].Load())
	require.EqualValues(t, 1, ts.Unplaced[route.UnplacedNoRoute].Load())
	require.EqualValues(t, 3, r.Stats().Routed[route.ByRule].Broadcast.Load())

	// What on_error delivered has a channel. It does not hide what nobody gets for the same reason.
	require.Equal(t, 1, r.logs.count("goes to the channel of its rule's on_error"))
	require.Contains(t, r.logs.String(), "reason=missing channel=lost")
	require.Equal(t, 1, r.logs.count("no channel can be named"))
	require.Contains(t, r.logs.String(), "route=-1 reason=no_route delivered_to=nobody")
}

// A rule with on_error and one without may lack the same.
func TestUnplacedIsLoggedApart(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest},
		Routes: []Route{
			{Key: "x", Channel: "{json.id}", OnError: route.OnError{Action: route.ErrorChannel, Channel: "lost"}},
			{Channel: "{json.id}"},
		}}, "lost")
	produceRecords(t, mustClient(t, c.ListenAddrs()),
		&kgo.Record{Topic: "a", Key: []byte("x"), Value: []byte("1")},
		&kgo.Record{Topic: "a", Key: []byte("y"), Value: []byte("2")},
		&kgo.Record{Topic: "a", Key: []byte("x"), Value: []byte("3")})
	r.wantValues(t, "lost", []string{"1", "3"})
	require.Equal(t, 1, r.logs.count("channel=lost"))
	require.Equal(t, 1, r.logs.count("no channel can be named"))
	require.EqualValues(t, 3, r.topic(0).Unplaced[route.UnplacedMissing].Load())
}

// A partition stops at the record that its rule cannot place, before it and for good; the others go on.
func TestStop(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "a"))
	cl := mustClient(t, c.ListenAddrs())
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Routes: []Route{
		{Channel: "{key}", OnError: route.OnError{Action: route.ErrorStop}},
	}}, "k0", "k1")
	rec := func(partition int32, key, value string) *kgo.Record {
		r := &kgo.Record{Topic: "a", Partition: partition, Value: []byte(value)}
		if key != "" {
			r.Key = []byte(key)
		}
		return r
	}
	produceRecords(t, cl, rec(0, "k0", "1"), rec(0, "k0", "2"), rec(0, "", "3"), rec(0, "k0", "4"), rec(1, "k1", "1"))
	r.wantValues(t, "k0", []string{"1", "2"})
	stopped := func() PartitionStats { return r.Stats().Partitions()[0] }
	eventually(t, func() bool { return stopped().Stopped }, func() string { return r.logs.String() })
	produceRecords(t, cl, rec(0, "k0", "5"), rec(1, "k1", "2"), rec(1, "k1", "3"))
	r.wantValues(t, "k1", []string{"1", "2", "3"})
	require.EqualValues(t, 2, stopped().Position, "the position does not pass the record")
	require.False(t, r.Stats().Partitions()[1].Stopped)
	require.Equal(t, []string{"1", "2"}, r.values("k0"))
	require.EqualValues(t, 1, r.topic(0).Unplaced[route.UnplacedMissing].Load())
	require.EqualValues(t, 5, r.topic(0).Records.Load())
	st := r.Status().Topics[0]
	require.False(t, st.Current)
	require.True(t, st.Partitions[0].Stopped)
	require.Contains(t, st.Partitions[0].Error, "stopped at offset 2: routes[0] cannot place that record (missing) and has on_error: stop")
	require.Equal(t, 1, r.logs.count("a partition is stopped"))
	require.Empty(t, st.Partitions[1].Error)
}
