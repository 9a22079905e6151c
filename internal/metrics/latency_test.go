package metrics

import (
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
)

// scrapeProtobuf scrapes as a Prometheus does that takes native histograms.
func scrapeProtobuf(t *testing.T, o Options) map[string]*dto.MetricFamily {
	t.Helper()
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	w := httptest.NewRecorder()
	Handler(o).ServeHTTP(w, request)
	families := make(map[string]*dto.MetricFamily)
	for w.Body.Len() > 0 {
		f := &dto.MetricFamily{}
		require.NoError(t, protodelim.UnmarshalOptions{}.UnmarshalFrom(w.Body, f))
		families[f.GetName()] = f
	}
	return families
}

// A native histogram says the same as was observed, with empty buckets between.
func TestNativeHistogram(t *testing.T) {
	o := options(t, 2)
	d := o.Source.Topics()[0].Deliveries
	observed := map[time.Duration]uint64{0: 3, time.Millisecond: 5, 1100 * time.Microsecond: 2, time.Second: 7, time.Minute: 1}
	for latency, n := range observed {
		d.Shard(1).Observe(latency, 0, n, true)
	}
	f := scrapeProtobuf(t, o)["wsd_delivery_latency_seconds"]
	require.Len(t, f.GetMetric(), 2)
	h := f.GetMetric()[0].GetHistogram()
	require.EqualValues(t, 18, h.GetSampleCount())
	require.EqualValues(t, 3, h.GetZeroCount())
	require.Len(t, h.GetBucket(), 18, "the classic buckets are there as well")

	index, count, at, got := int32(0), int64(0), 0, map[int32]int64{}
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range span.GetLength() {
			count += h.GetPositiveDelta()[at]
			got[index], index, at = count, index+1, at+1
		}
	}
	require.Len(t, h.GetPositiveDelta(), at)
	want := map[int32]int64{}
	for latency, n := range observed {
		if latency > 0 {
			want[int32(math.Ceil(math.Log2(latency.Seconds())*4))] += int64(n)
		}
	}
	require.Equal(t, want, got)

	empty := f.GetMetric()[1].GetHistogram()
	require.NotEmpty(t, empty.GetPositiveSpan(), "it is known as a native one")
	require.True(t, proto.Equal(&dto.LabelPair{Name: proto.String("topic"), Value: proto.String("b")}, f.GetMetric()[1].GetLabel()[0]))
}
