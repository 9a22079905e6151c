package source

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Another cluster is not read: neither one that took over the address nor one that is not the configured one.
func TestAnotherClusterIsRefused(t *testing.T) {
	first := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"), kfake.ClusterID("first"))
	second := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"), kfake.ClusterID("second"))
	o := Options{Brokers: append(first.ListenAddrs(), second.ListenAddrs()...), Topics: []string{"a"},
		Start: Start{Mode: StartEarliest}}
	r := startRig(t, o, "a")
	r.waitReady(t)
	first.Close()
	produce(t, mustClient(t, second.ListenAddrs()), "a", 0, "foreign")
	named := `belongs to the cluster "second", but wsd has read "first" so far`
	eventually(t, func() bool { return strings.Contains(r.Status().Error, named) || len(r.records("a")) > 0 }, r.logs.String)
	require.Empty(t, r.records("a"))

	for _, topics := range [][]string{{"a"}, {"re:a.*"}} {
		r = startRig(t, Options{Brokers: second.ListenAddrs(), Topics: topics, ClusterID: "first"}, "a")
		eventually(t, func() bool { return r.Status().Error != "" }, r.logs.String)
		require.Contains(t, r.Status().Error, `belongs to the cluster "second", not to "first" (kafka.cluster_id)`)
		require.False(t, r.Ready())
		require.Empty(t, r.partitionsSeen())
	}
	r = startRig(t, Options{Brokers: second.ListenAddrs(), Topics: []string{"a"}, ClusterID: "second"}, "a")
	r.waitReady(t)
}
