package client

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Counters counts what happened to the good clients. The values only grow, except for Open and Behind, and for Lost,
// which shrinks when a record arrives late.
type Counters struct {
	Attempts  int64 // Connection attempts.
	Connected int64 // Attempts that led to a TCP connection.
	Refused   int64 // Attempts refused by the server, with an HTTP status, an error reply, a close or a RST.
	Failed    int64 // Attempts that ended in another way: timeouts, local errors, invalid responses.
	GivenUp   int64 // Clients that do not try again, because they would be refused again.
	Held      int64 // Clients that have been connected and subscribed.
	Open      int64 // Held clients that are still connected.
	Closed    int64 // Held clients that were disconnected by the server or the network.
	Moved     int64 // Connections that Reconnect or Churn has ended; the client comes back.
	Rejoined  int64 // Subscriptions of clients that had been held before.
	Recovered int64 // Of Rejoined, those that the server said have missed nothing.
	// Held clients that Close has disconnected properly, with a close frame and the server's end of the stream.
	Left int64

	Deliveries    int64 // Records of this run, including duplicates.
	DeliveryBytes int64 // Bytes of the values of these records.
	WireBytes     int64 // Bytes read from sockets, after TLS.
	Foreign       int64 // Records of another run, which are not checked.
	Corrupt       int64 // Records with other bytes than were produced.
	Unexpected    int64 // Messages that are neither a record nor a ping, such as an unsubscribe push.
	Gaps          int64 // Times that numbers were skipped.
	Lost          int64 // Skipped numbers that did not arrive later.
	LostClosed    int64 // Records that clients did not get because they were disconnected.
	Duplicates    int64 // Records that arrived again.
	Reordered     int64 // Records that arrived after a later one.
	Pings         int64 // Pings answered, both WebSocket's and the client protocol's.
	Behind        int64 // Open clients that have not got the last record yet; set while draining.

	Closes   map[string]int64 // Closed by close code, or by what happened instead.
	Refusals map[string]int64 // Refused by reason.
	Failures map[string]int64 // Failed by reason.
}

// Limits of what is kept as text. Further reasons are counted together, and further faults are dropped.
const (
	reasonsMax = 32
	faultsMax  = 16
)

func count(m *map[string]int64, reason string) {
	if *m == nil {
		*m = map[string]int64{}
	}
	if _, known := (*m)[reason]; !known && len(*m) >= reasonsMax {
		reason = "other"
	}
	(*m)[reason]++
}

// Add adds all fields of the struct from to those of the struct to: numbers, counted reasons, and lists of faults. Both
// are pointers to the same type.
func Add(to, from any) {
	a, b := reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()
	for i := range a.NumField() {
		x, y := a.Field(i), b.Field(i)
		switch v := y.Interface().(type) {
		case int64:
			x.SetInt(x.Int() + v)
		case uint64:
			x.SetUint(x.Uint() + v)
		case map[string]int64:
			sum, _ := x.Interface().(map[string]int64)
			if sum = maps.Clone(sum); sum == nil && len(v) > 0 {
				sum = map[string]int64{}
			}
			for reason, n := range v {
				sum[reason] += n
			}
			x.Set(reflect.ValueOf(sum))
		case []string:
			all := slices.Concat(x.Interface().([]string), v)
			x.Set(reflect.ValueOf(all[:min(len(all), faultsMax)]))
		case Counters:
			Add(x.Addr().Interface(), &v)
		default:
			panic(fmt.Sprintf("BUG: cannot add a field of type %T", v))
		}
	}
}

// The range of histograms in microseconds. Values outside count as the limit.
const (
	microsMin = 1
	microsMax = 60_000_000
	digitsHDR = 3
)

// Times are histograms in microseconds.
type Times struct {
	Connect *hdrhistogram.Histogram // From connecting to the first subscription of a client.
	Rejoin  *hdrhistogram.Histogram // From connecting again to the subscription.
	Latency *hdrhistogram.Histogram // From a record's time to the end of the read that returned it.
	Lag     *hdrhistogram.Histogram // How late a loop does what is due: its own part of the other times.
}

// NewTimes returns empty histograms.
func NewTimes() Times { return Times{newHistogram(), newHistogram(), newHistogram(), newHistogram()} }

// Merge adds the values of o.
func (t *Times) Merge(o *Times) {
	t.Connect.Merge(o.Connect)
	t.Rejoin.Merge(o.Rejoin)
	t.Latency.Merge(o.Latency)
	t.Lag.Merge(o.Lag)
}

func (t *Times) reset() {
	t.Connect.Reset()
	t.Rejoin.Reset()
	t.Latency.Reset()
	t.Lag.Reset()
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(microsMin, microsMax, digitsHDR) }

func record(h *hdrhistogram.Histogram, nanos int64) {
	if err := h.RecordValue(min(max(nanos/1000, microsMin), microsMax)); err != nil {
		panic(fmt.Sprintf("BUG: %d µs in the histogram: %v", nanos/1000, err))
	}
}
