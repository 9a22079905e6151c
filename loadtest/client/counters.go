package client

import (
	"bytes"
	"encoding/gob"
	"fmt"
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

// Add adds the fields of the struct from to those of the same name of the struct to, to which the arguments point:
// numbers, whether anything is true, counted reasons, lists of faults, and structs and histograms in it.
func Add(to, from any) {
	a, b := reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()
	for i := range b.NumField() {
		x, y := a.FieldByName(b.Type().Field(i).Name), b.Field(i)
		if !x.IsValid() {
			continue
		}
		switch v := y.Interface().(type) {
		case int64:
			x.SetInt(x.Int() + v)
		case uint64:
			x.SetUint(x.Uint() + v)
		case bool:
			x.SetBool(x.Bool() || v)
		case map[string]int64:
			if len(v) == 0 && a.Type() == b.Type() {
				continue // Of another type is a report, in which nothing counted is not null.
			}
			sum := map[string]int64{}
			for _, m := range []map[string]int64{x.Interface().(map[string]int64), v} {
				for reason, n := range m {
					sum[reason] += n
				}
			}
			x.Set(reflect.ValueOf(sum))
		case []string:
			all := slices.Concat(x.Interface().([]string), v)
			x.Set(reflect.ValueOf(all[:min(len(all), faultsMax)]))
		case Counters, Disturbed:
			Add(x.Addr().Interface(), y.Addr().Interface())
		case *Times:
			if x.IsNil() {
				x.Set(y)
			} else if v != nil {
				x.Interface().(*Times).Merge(v)
			}
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

// all returns the histograms.
func (t *Times) all() []*hdrhistogram.Histogram {
	return []*hdrhistogram.Histogram{t.Connect, t.Rejoin, t.Latency, t.Lag}
}

// Merge adds the values of o.
func (t *Times) Merge(o *Times) {
	for i, h := range o.all() {
		t.all()[i].Merge(h)
	}
}

func (t *Times) reset() {
	for _, h := range t.all() {
		h.Reset()
	}
}

// GobEncode implements gob.GobEncoder.
func (t Times) GobEncode() ([]byte, error) {
	var list []*hdrhistogram.Snapshot
	for _, h := range t.all() {
		list = append(list, h.Export())
	}
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(list)
	return b.Bytes(), err
}

// GobDecode implements gob.GobDecoder.
func (t *Times) GobDecode(b []byte) error {
	var list []*hdrhistogram.Snapshot
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&list); err != nil {
		return err
	}
	*t = NewTimes()
	for i, h := range t.all() {
		h.Merge(hdrhistogram.Import(list[i]))
	}
	return nil
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(microsMin, microsMax, digitsHDR) }

func record(h *hdrhistogram.Histogram, nanos int64) {
	if err := h.RecordValue(min(max(nanos/1000, microsMin), microsMax)); err != nil {
		panic(fmt.Sprintf("BUG: %d µs in the histogram: %v", nanos/1000, err))
	}
}
