package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"wsd/internal/command"
)

func TestTopicsCreate(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
	require.NoError(t, err)
	defer cluster.Close()
	create := func(args string) (code int, stdout, stderr string) {
		return call(append([]string{"topics", "create", "--kafka.brokers", strings.Join(cluster.ListenAddrs(), ",")}, strings.Fields(args)...)...)
	}
	code, stdout, stderr := create("--commands.topic c --replicas 3 --dry-run")
	require.Zero(t, code, stderr)
	require.Equal(t, "would create topic c with 1 partitions and 3 replicas", strings.SplitN(stdout, "\n", 2)[0])
	require.Contains(t, stdout, "min.insync.replicas=2")
	for range 2 { // The dry run has made nothing, and what exists stays.
		code, stdout, stderr = create("--commands.topic c --replicas 3")
		require.Zero(t, code, stderr)
	}
	require.Contains(t, stdout, "topic c exists, with 1 partitions")
	code, stdout, stderr = create("--commands.topic c --replicas 3 --retention 3h")
	require.Equal(t, command.Failed, code)
	require.Contains(t, stdout, "retention.ms is 3600000, wsd would set 10800000")
	require.Contains(t, stderr, "not as wsd needs it")

	for args, want := range map[string]string{
		"":                                  "commands.topic is not set",
		"--commands.topic c --partitions 0": "--partitions 0 must be from 1 to 1000",
		"--commands.topic c --replicas 0":   "--replicas 0 must be -1, or 1 and more",
		"--commands.topic c --replicas 1 --min-isr 2": "--min-isr 2 must be from 0 to --replicas",
		"--commands.topic c --retention 1m":           "must be longer than commands.age_max",
		"--commands.topic a/b":                        "not the name of a topic",
	} {
		code, _, stderr := create(args)
		require.Equal(t, command.Usage, code, args)
		require.Contains(t, stderr, want)
	}
}
