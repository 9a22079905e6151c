package source

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Old brokers have no topic ids: Fetch 11 by name.
func TestBrokerWithoutTopicIDs(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(2), kfake.SeedTopics(3, "a"), kfake.MaxVersions(kversion.V2_4_0()))
	cl := mustClient(t, c.ListenAddrs(), kgo.MaxVersions(kversion.V2_4_0()))
	for p := range int32(3) {
		produce(t, cl, "a", p, numbered(0, 20)...)
	}
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Routes: []Route{{Channel: "{partition}"}}}, "0", "1", "2")
	for _, ch := range []string{"0", "1", "2"} {
		r.wantValues(t, ch, numbered(0, 20))
	}
	require.Equal(t, 1, r.logs.count("no topic ids"))
}

// Records on the bus have Kafka's keys only where somebody needs them.
func TestKeys(t *testing.T) {
	for _, keys := range []bool{false, true} {
		c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
		cl := mustClient(t, c.ListenAddrs())
		produceRecords(t, cl, &kgo.Record{Topic: "a", Key: []byte("k"), Value: []byte("1")}, &kgo.Record{Topic: "a", Value: []byte("2")}, &kgo.Record{Topic: "a", Key: []byte{}, Value: []byte("3")})
		r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Keys: keys}, "a")
		r.wantValues(t, "a", []string{"1", "2", "3"})
		want := []string{"none", "none", "none"}
		if keys {
			want = []string{"k", "none", ""}
		}
		r.sink.mu.Lock()
		require.Equal(t, want, r.keys["a"])
		r.sink.mu.Unlock()
	}
}
