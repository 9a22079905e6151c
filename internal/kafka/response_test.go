package kafka

import (
	"bufio"
	"encoding/binary"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// requestKinds are the requests that wsd sends.
var requestKinds = []kmsg.Key{
	kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate, kmsg.Metadata, kmsg.DescribeConfigs, kmsg.ListOffsets, kmsg.OffsetForLeaderEpoch, kmsg.Fetch,
	kmsg.FindCoordinator, kmsg.OffsetFetch, kmsg.OffsetCommit,
}

// goodResponse returns a response with at least one element in each of its lists.
func goodResponse(key kmsg.Key, version int16) []byte {
	resp := key.Response()
	text := kmsg.StringPtr("text")
	switch r := resp.(type) {
	case *kmsg.ApiVersionsResponse:
		r.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{ApiKey: 1, MaxVersion: 13}, {ApiKey: 3, MaxVersion: 12}}
	case *kmsg.SASLHandshakeResponse:
		r.SupportedMechanisms = []string{"PLAIN", "SCRAM-SHA-256"}
	case *kmsg.SASLAuthenticateResponse:
		r.ErrorMessage, r.SASLAuthBytes = text, []byte("bytes")
	case *kmsg.MetadataResponse:
		r.Brokers = []kmsg.MetadataResponseBroker{{Host: "host", Port: 9092, Rack: text}}
		r.ClusterID = text
		r.Topics = []kmsg.MetadataResponseTopic{{Topic: text, Partitions: []kmsg.MetadataResponseTopicPartition{{Replicas: []int32{1, 2}, ISR: []int32{1}, OfflineReplicas: []int32{2}}}}}
	case *kmsg.DescribeConfigsResponse:
		r.Resources = []kmsg.DescribeConfigsResponseResource{{ResourceName: "a", ErrorMessage: text, Configs: []kmsg.DescribeConfigsResponseResourceConfig{
			{Name: "cleanup.policy", Value: text, ConfigSynonyms: []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{{Name: "log.cleanup.policy", Value: text}}},
		}}}
	case *kmsg.ListOffsetsResponse:
		r.Topics = []kmsg.ListOffsetsResponseTopic{{Topic: "a", Partitions: []kmsg.ListOffsetsResponseTopicPartition{{Offset: 7, OldStyleOffsets: []int64{7}}}}}
	case *kmsg.OffsetForLeaderEpochResponse:
		r.Topics = []kmsg.OffsetForLeaderEpochResponseTopic{{Topic: "a", Partitions: []kmsg.OffsetForLeaderEpochResponseTopicPartition{{EndOffset: 7}}}}
	case *kmsg.FetchResponse:
		r.Topics = []kmsg.FetchResponseTopic{{Topic: "a", Partitions: []kmsg.FetchResponseTopicPartition{{
			RecordBatches: []byte("batches"), AbortedTransactions: []kmsg.FetchResponseTopicPartitionAbortedTransaction{{ProducerID: 1}},
		}}}}
	case *kmsg.FindCoordinatorResponse:
		r.Host, r.ErrorMessage = "host", text
		r.Coordinators = []kmsg.FindCoordinatorResponseCoordinator{{Key: "group", Host: "host"}}
	case *kmsg.OffsetFetchResponse:
		r.Topics = []kmsg.OffsetFetchResponseTopic{{Topic: "a", Partitions: []kmsg.OffsetFetchResponseTopicPartition{{Offset: 7, Metadata: text}}}}
		r.Groups = []kmsg.OffsetFetchResponseGroup{{Group: "group", Topics: []kmsg.OffsetFetchResponseGroupTopic{{Topic: "a", Partitions: []kmsg.OffsetFetchResponseGroupTopicPartition{{Offset: 7}}}}}}
	case *kmsg.OffsetCommitResponse:
		r.Topics = []kmsg.OffsetCommitResponseTopic{{Topic: "a", Partitions: []kmsg.OffsetCommitResponseTopicPartition{{Partition: 1}}}}
	}
	resp.SetVersion(version)
	b := binary.BigEndian.AppendUint32(nil, 1) // The correlation id.
	if resp.IsFlexible() {
		b = append(b, 0) // No tagged fields.
	}
	return resp.AppendTo(b)
}

// everyVersion calls fn for every request that wsd sends, in every version that the codec has.
func everyVersion(fn func(key kmsg.Key, version int16)) {
	for _, key := range requestKinds {
		for v := range key.Response().MaxVersion() + 1 {
			fn(key, v)
		}
	}
}

func decodeAs(key kmsg.Key, version int16, b []byte) error {
	resp := key.Response()
	resp.SetVersion(version)
	return decode(resp, b, 1)
}

// A response that is cut or damaged is an error or nonsense, never a panic, and costs memory in proportion to its size.
func TestDamagedResponses(t *testing.T) {
	everyVersion(func(key kmsg.Key, version int16) {
		good := goodResponse(key, version)
		require.NoError(t, decodeAs(key, version, good), "%s %d", key.Name(), version)
		for n := range good {
			if err := decodeAs(key, version, good[:n:n]); err == nil && n < 4 {
				t.Errorf("%s %d: %d of %d bytes are a response", key.Name(), version, n, len(good))
			}
			for _, damage := range []byte{0, 0x7f, 0x80, 0xff} {
				bad := append([]byte(nil), good...)
				bad[n] = damage
				_ = decodeAs(key, version, bad)
			}
		}
		var before, after runtime.MemStats
		for _, garbage := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			bad := good[:4:4]
			for range 4096 {
				bad = append(bad, garbage)
			}
			runtime.ReadMemStats(&before)
			_ = decodeAs(key, version, bad)
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20), "%s %d of 0x%02x", key.Name(), version, garbage)
		}
	})
}

func FuzzResponse(f *testing.F) {
	for i, key := range requestKinds {
		for v := range key.Response().MaxVersion() + 1 {
			f.Add(uint8(i), uint8(v), goodResponse(key, v))
		}
	}
	f.Fuzz(func(_ *testing.T, kind, version uint8, b []byte) {
		key := requestKinds[int(kind)%len(requestKinds)]
		v := int16(version) % (key.Response().MaxVersion() + 1)
		resp := key.Response()
		if resp.SetVersion(v); resp.IsFlexible() && highRun(b) > 2 {
			return // A forged count of tags, up to 2^32, keeps kmsg counting for half a minute. It ends, and takes no memory.
		}
		_ = decodeAs(key, v, b)
	})
}

// highRun returns the length of the longest run of bytes that a varint continues after.
func highRun(b []byte) (longest int) {
	run := 0
	for _, c := range b {
		if run++; c < 0x80 {
			run = 0
		}
		longest = max(longest, run)
	}
	return longest
}

// pipeConn returns a connection whose peer answers each request with the bytes given, size and all.
func pipeConn(t *testing.T, answers ...[]byte) *Conn {
	t.Helper()
	ours, peer := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer peer.Close()
		for _, a := range answers {
			var head [4]byte
			if _, err := peer.Read(head[:]); err != nil {
				return
			}
			request := make([]byte, binary.BigEndian.Uint32(head[:]))
			for n := 0; n < len(request); {
				m, err := peer.Read(request[n:])
				if err != nil {
					return
				}
				n += m
			}
			if _, err := peer.Write(a); err != nil {
				return
			}
		}
	}()
	c := &Conn{
		closed: make(chan struct{}),
		stream: ours, reader: bufio.NewReader(ours), stopCancel: func() bool { return true }, formatter: kmsg.NewRequestFormatter(),
		responseMax: 1 << 20, responseKept: 1 << 10,
	}
	require.NoError(t, ours.SetDeadline(time.Now().Add(time.Minute)))
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return c
}

func sized(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }

// Whatever a peer answers that is no Kafka response is an error of the request.
func TestRequestRefuses(t *testing.T) {
	good := goodResponse(kmsg.ApiVersions, 0)
	other := append([]byte(nil), good...)
	other[3] = 9
	for want, answer := range map[string][]byte{
		"impossible size":          []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"TLS alert":                {0x15, 3, 3, 0, 2, 2, 70},
		"request 9, not 1":         sized(other),
		"EOF":                      {0, 0},
		"unexpected EOF":           sized(good)[:len(good)],
		"enough data to be valid":  sized(good[:len(good)-1]),
		"port?): 3 bytes":          {0, 0, 0, 3, 1, 2, 3},
		"port?): -1 bytes":         {0xff, 0xff, 0xff, 0xff},
		"at most 1048576":          {0, 0x20, 0, 0},
		"enough data":              sized(append(good[:6:6], 0xff, 0xff, 0xff)),
		"the broker is too old":    sized(good),
		"[35] Unsupported Version": sized([]byte{0, 0, 0, 1, 0, 35, 0, 0, 0, 0}),
	} {
		require.ErrorContains(t, pipeConn(t, answer).negotiate(), want, "%q", answer)
	}
}

// A response larger than a connection keeps is read, and its memory given back after the next one.
func TestResponseMemory(t *testing.T) {
	large := kmsg.ApiVersionsResponse{ApiKeys: make([]kmsg.ApiVersionsResponseApiKey, 1000)}
	c := pipeConn(t, sized(large.AppendTo([]byte{0, 0, 0, 1})), sized(append([]byte{0, 0, 0, 2}, goodResponse(kmsg.ApiVersions, 0)[4:]...)))
	req := kmsg.NewApiVersionsRequest()
	var resp kmsg.ApiVersionsResponse
	size, err := c.Request(&req, &resp, 0)
	require.NoError(t, err)
	require.Greater(t, size, c.responseKept)
	require.GreaterOrEqual(t, cap(c.response), size)
	_, err = c.Request(&req, &resp, 0)
	require.NoError(t, err)
	require.Less(t, cap(c.response), c.responseKept)
}
