package source

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"wsd/internal/bus"
	"wsd/internal/route"
)

func TestValues(t *testing.T) {
	big := `{"v":"` + strings.Repeat("x", 8<<20) + `"}`
	for _, codec := range []string{"none", "zstd"} {
		t.Run(codec, func(t *testing.T) {
			c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "20000000"}))
			cl := mustClient(t, c.ListenAddrs(), kgo.ProducerBatchMaxBytes(20<<20), kgo.MaxBufferedBytes(64<<20), kgo.BrokerMaxWriteBytes(64<<20), kgo.ProducerBatchCompression(codecs[codec]))
			r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, RecordBytesMax: 16 << 20}, "a")
			cases := []struct {
				value string
				null  bool
				json  string // Empty: not JSON.
				text  bool
			}{
				{value: `{"n":1}`, json: `{"n":1}`, text: true},
				{value: "{\n \"n\": [1,\r\n\t2 ] }\n", json: `{"n":[1,2]}`, text: true},
				{value: `{"s":"a b\n"}`, json: `{"s":"a b\n"}`, text: true},
				{value: `{"a":1}{"b":2}`, text: true},
				{value: "{\"a\":1}\n{\"b\":2}", text: true},
				{value: "\x00", text: true},
				{value: "{\"a\":\"\x00\"}", text: true},
				{value: "{\"a\":\"\xff\"}"},
				{value: "\xff\xfe"},
				{value: "plain text", text: true},
				{value: "", text: true},
				{value: "null", json: "null", text: true},
				{null: true, json: "null", text: true},
				{value: " 1.50 ", json: "1.50", text: true},
				{value: `"line` + "\n" + `break"`, text: true}, // A raw newline inside a string is no JSON.
				{value: big, json: big, text: true},
				{value: `{"after":"big"}`, json: `{"after":"big"}`, text: true},
				// Valid, but the parsers of many clients refuse it.
				{value: strings.Repeat("[", 128) + strings.Repeat("]", 128), json: strings.Repeat("[", 128) +
					strings.Repeat("]", 128), text: true},
				{value: strings.Repeat("[", 129) + strings.Repeat("]", 129), text: true},
				{value: strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), text: true},
				{value: `{"n":` + strings.Repeat("9", 5000) + `}`, text: true},
			}
			for _, tc := range cases {
				rec := &kgo.Record{Topic: "a", Value: []byte(tc.value)}
				if tc.null {
					rec.Value = nil
				}
				produceRecords(t, cl, rec)
			}
			eventually(t, func() bool { return len(r.records("a")) == len(cases) }, func() string { return fmt.Sprint(len(r.records("a")), " records\n", r.logs) })
			invalid := 0
			for i, rec := range r.records("a") {
				tc := cases[i]
				name := fmt.Sprintf("%.20q", tc.value)
				if tc.null {
					require.Nil(t, rec.Value)
				} else {
					require.NotNil(t, rec.Value, name)
					require.True(t, bytes.Equal(rec.Value, []byte(tc.value)), name) // Not Equal: it would print megabytes.
				}
				if tc.json == "" {
					require.Nil(t, rec.JSON, name)
					invalid++
				} else {
					require.True(t, bytes.Equal(rec.JSON, []byte(tc.json)), name)
				}
				require.Equal(t, tc.text, rec.Text, name)
				require.EqualValues(t, i+1, rec.Offset)
			}
			require.EqualValues(t, invalid, r.topic(0).InvalidJSON.Load())
			require.Equal(t, 1, r.logs.count("not JSON"), "logged once a topic")
			require.Equal(t, 1, r.logs.count("nested deeper than kafka.json_depth_max"), "logged once a topic")
			require.Equal(t, 1, r.logs.count("limit=128"))
			require.Equal(t, 1, r.logs.count("many JSON parsers refuse"), "logged once a topic")
		})
	}
}

// A client that comes back gets the same of a deep value as one that stayed.
func TestDepthReadAgain(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, JSONDepthMax: 3}, "a")
	r.waitReady(t)
	values := []string{"[[[1]]]", "[[[[]]]]", `[[[{"a":1}]]]`}
	produce(t, cl, "a", 0, values...)
	r.wantValues(t, "a", values)
	reader := r.NewReader(t.Context())
	defer reader.Close()
	st, ok := r.Stream("a")
	require.True(t, ok)
	b, err := reader.Read(t.Context(), st, 0, 3, 3, 1<<20)
	require.NoError(t, err)
	w, n := r.NewWalker(), 0
	for w.Open(st, b, 0, 3); w.Next(); n++ {
		live, again := r.records("a")[n], w.Record()
		require.Equal(t, live, again)
		require.Equal(t, n == 0, again.JSON != nil)
	}
	require.Equal(t, 3, n)
	require.EqualValues(t, 2, r.topic(0).InvalidJSON.Load())
	require.Contains(t, r.logs.String(), "limit=3")
}

// A burst of garbage between good records disturbs nothing and nobody.
func TestGarbageBurst(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "a"))
	cl := mustClient(t, c.ListenAddrs())
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Routes: []Route{{Channel: "{key}"}}}, "good")
	var want []string
	for n := range 200 {
		v := fmt.Sprintf(`{"n":%d}`, n)
		want = append(want, v)
		recs := []*kgo.Record{{Topic: "a", Key: []byte("good"), Value: []byte(v)}}
		for i, junk := range []string{"", "\x00\xff", strings.Repeat("[", 10000), `{"a":`, "}{", strings.Repeat("\xc3", 4096)} {
			recs = append(recs,
				&kgo.Record{Topic: "a", Key: []byte(fmt.Sprint("junk", i)), Value: []byte(junk)},
				&kgo.Record{Topic: "a", Value: []byte(junk)}, // No key.
				&kgo.Record{Topic: "a", Key: []byte("\xff\xff"), Value: []byte(junk)},
				&kgo.Record{Topic: "a", Key: []byte(strings.Repeat("k", 300)), Headers: []kgo.RecordHeader{{Key: junk, Value: []byte(junk)}}})
		}
		produceRecords(t, cl, recs...)
	}
	r.wantValues(t, "good", want)
	ts := r.topic(0)
	// The last good record may come before the garbage behind it.
	eventually(t, func() bool {
		return ts.Records.Load() == 200*25 && r.Stats().Routed[route.ByRule].Unwanted.Load() == 200*6
	}, func() string { return fmt.Sprint(ts.Records.Load(), " records read") })
	require.EqualValues(t, 200*6, ts.Unplaced[route.UnplacedMissing].Load())
	require.EqualValues(t, 200*6, ts.Unplaced[route.UnplacedText].Load())
	require.EqualValues(t, 200*6, ts.Unplaced[route.UnplacedLength].Load())
	require.EqualValues(t, 200*6, r.Stats().Routed[route.ByRule].Unwanted.Load())
	require.Zero(t, ts.InvalidJSON.Load(), "what nobody wants is not checked")
	require.Zero(t, r.Stats().Panics.Load()+lost(ts))
	require.LessOrEqual(t, r.logs.count("no channel can be named"), 3, "logged once a topic and reason")
}

func TestGarbageForTheSameChannel(t *testing.T) {
	c := mustCluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "a"))
	cl := mustClient(t, c.ListenAddrs())
	r := startRig(t, Options{Brokers: c.ListenAddrs(), Topics: []string{"a"}, Start: Start{Mode: StartEarliest}, Builder: bus.BuilderOptions{RecordsMax: 7, BytesMax: 1 << 16}}, "a")
	var want []string
	for n := range 100 {
		vs := []string{fmt.Sprintf(`{"n":%d}`, n), strings.Repeat("[", 5000), "\xff", "}{", "x"}
		produce(t, cl, "a", 0, vs...)
		want = append(want, vs...)
	}
	r.wantValues(t, "a", want)
	for i, rec := range r.records("a") {
		require.Equal(t, i%5 == 0, rec.JSON != nil)
	}
	require.EqualValues(t, 400, r.topic(0).InvalidJSON.Load())
}
