package tidy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const limitsFile = "docs/limits.md"

// limitTests names for each row of the table of limits, by how its first cell begins, the tests that reach the limit
// and see what the client then gets.
var limitTests = map[string][]string{
	"`limits.connections`":            {"TestConnectionsLimit"},
	"`limits.address_connections`":    {"TestConnectionsLimit"},
	"`limits.handshakes`":             {"TestHandshakesLimit"},
	"`limits.address_handshakes`":     {"TestHandshakesLimit"},
	"`limits.user_connections`":       {"TestUserConnections"},
	"`limits.address_token_failures`": {"TestFailuresAreRemembered"},
	"`auth.token_bytes_max`":          {"TestBadTokens"},
	"`auth.waiting_max`":              {"TestPoolIsBounded"},
	"names of channels and of":        {"TestBadTokens"},
	"channels that a connection":      {"TestServedChannels"},
	"file descriptors":                {"TestDescriptorsExhausted", "TestDescriptorsKept"},
	"`steering.limits.source_rate`":   {"TestSourceRate", "TestSourceRateIPv6"},
	"`steering.limits.source_burst`":  {"TestSourceRate"},
	"`steering.limits.admission`":     {"TestAdmission"},
	"[admission](admission.md)":       {"TestAdmissionInTheKernel", "TestAdmissionOverHTTP", "TestAdmissionHTTP"},
	"`client.handshake_timeout`":      {"TestHandshakeTimeout", "TestHandshakeTimeoutLeavesPlace"},
	"`client.head_max`":               {"TestHeadMaxInDryRun", "TestHTTPAnswers"},
	"`client.stale_close_delay`":      {"TestStale"},
	"`limits.age`":                    {"TestAge"},
	"records under one AES-GCM key":   {"TestTLSKeysWearOut"},
	"`limits.idle`":                   {"TestIdle"},
	"`client.pong_timeout`":           {"TestPings"},
	"`client.progress_timeout`":       {"TestNoProgress"},
	"`limits.commands_rate`":          {"TestAllowance"},
	"`limits.frames_rate`":            {"TestAllowance"},
	"`limits.inflated_rate`":          {"TestAllowance", "TestInflatedIsBounded"},
	"`limits.recoveries_rate`":        {"TestAllowance", "TestRecoveriesRate"},
	"work in one turn":                {"TestManyCommandsTakeTurns", "TestTurnsAreBounded"},
	"`client.message_max`":            {"TestMessageMaxInDryRun", "TestClosedByLimits"},
	"`client.first_message_max`":      {"TestFirstMessageMax", "TestFirstMessageMaxOnTheWire"},
	"inflated over compressed":        {"TestInflatedIsBounded"},
	"commands in a message":           {"TestClosedByLimits"},
	"`client.frame_timeout`":          {"TestMessageTiming"},
	"`limits.publish_rate`":           {"TestPublishRate"},
	"`limits.publish_under_way`":      {"TestPublishUnderWay"},
	"`publish.bytes_max`":             {"TestPublishRefuses"},
	"`publish.under_way_max`":         {"TestBounds"},
	"`publish.memory`":                {"TestBoundsOfBytes"},
	"`publish.timeout`":               {"TestBounds"},
	"`publish.keys_max`":              {"TestIdempotencyKeys"},
	"tags of a publication":           {"TestPublishRefuses"},
	"`api.body_max`":                  {"TestBadRequests"},
	"`api.timeout`":                   {"TestTimeout"},
	"`api.connections_max`":           {"TestConnectionsOption"},
	"commands in a request":           {"TestBatchLimits"},
	"publications of the API":         {"TestBroadcastLeavesRoom"},
	"bytes of histories and channels": {"TestLimitsOfARequest"},
	"memory of all requests":          {"TestMemoryOfRequests", "TestReserve"},
	"requests for channels":           {"TestChannelsEnd"},
	"`api.channels_max`":              {"TestAPIChannelsMax"},
	"orders of the API":               {"TestOrdersBounded"},
	"a command: user and channel":     {"TestCheck"},
	"`commands.age_max`":              {"TestKfake"},
	"ids of commands":                 {"TestWindow"},
	"`proxy.client_calls_max`":        {"TestCallsOfAClientAreBounded"},
	"`proxy.timeout`":                 {"TestWaitingTimesOut", "TestBackendAway"},
	"`proxy.concurrency`":             {"TestConcurrencyIsBounded"},
	"`proxy.bytes_max`":               {"TestBytesAreBounded"},
	"`proxy.answer_bytes_max`":        {"TestBadBackends", "TestBackendAway"},
	"bytes read from a client after":  {"TestDiscardIsBounded", "TestTLSDiscardIsBounded"},
	"`client.channels_max`":           {"TestChannelsMaxInDryRun", "TestChannelLimit"},
	"`client.channel_length_max`":     {"TestCommandReplies", "TestHTTPAnswers"},
	"history requests that wait":      {"TestHistory"},
	"`client.outbound_max`":           {"TestSlowClient", "TestOutboundMaxInDryRun"},
	"`limits.memory`":                 {"TestTightMemory", "TestLargestHoldersAreClosed", "TestMemoryInDryRun"},
	"`limits.answers_memory`":         {"TestAnswersHaveAPart"},
	"`bus.pinned_max`":                {"TestPinnedMax", "TestPinnedMaxInDryRun"},
	"`limits.channels`":               {"TestChannelsLimit"},
	"`limits.channels_rate`":          {"TestChannelsRate"},
	"`bus.ring_bytes_max`":            {"TestRetainedBytes"},
	"`bus.ring_batches`":              {"TestBackPressure"},
	"publications of a channel with":  {"TestDepth", "TestOldest"},
	"`recovery.waiting_max`":          {"TestOverload", "TestRecoverLater"},
	"`recovery.waiting_address_max`":  {"TestAddressHasAShare", "TestAddressLeavesPlacesForOthers"},
	"`recovery.max_publications`":     {"TestLimits", "TestUnrecovered"},
	"`recovery.max_bytes`":            {"TestLimits", "TestHistory"},
	"`kafka.max_record_bytes`":        {"TestRecordSizes"},
	"headers of a record":             {"TestHeadersAreLimited"},
	"`kafka.json_depth_max`":          {"TestValues"},
	"`overrides.channels_max`":        {"TestOverrides"},
}

// Every limit of the table has a test that reaches it.
func TestLimitsAreReached(t *testing.T) {
	tests := make(map[string]bool)
	for _, name := range files(t) {
		if strings.HasSuffix(name, "_test.go") {
			for _, m := range testFunction.FindAllSubmatch(content(t, name), -1) {
				tests[string(m[1])] = true
			}
		}
	}
	seen := make(map[string]bool)
	_, table, ok := strings.Cut(string(content(t, limitsFile)), "| limit | default | beyond it | dry run | counted |\n")
	require.True(t, ok)
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.Lines(table) {
		limit := strings.TrimSpace(strings.Split(line, "|")[1])
		if strings.HasPrefix(limit, "**") || strings.HasPrefix(limit, "---") { // A heading within the table.
			continue
		}
		found := false
		for begin, reach := range limitTests {
			if !strings.HasPrefix(limit, begin) {
				continue
			}
			found, seen[begin] = true, true
			for _, test := range reach {
				require.True(t, tests[test], "%s is to reach %q, and there is no such test", test, limit)
			}
		}
		require.True(t, found, "no test is named that reaches the limit %q: add it to limitTests", limit)
	}
	for begin := range limitTests {
		require.True(t, seen[begin], "%s has no row for %q", limitsFile, begin)
	}
}
