package client

import (
	"fmt"
	"maps"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Counters counts what happened to clients. The values only grow, except for Open and Behind, and for Lost, which
// shrinks when a record arrives late.
type Counters struct {
	Attempts  int64 // Connection attempts.
	Connected int64 // Attempts that led to a TCP connection.
	Refused   int64 // Attempts refused by the server, with an HTTP status, an error reply, a close or a RST.
	Failed    int64 // Attempts that ended in another way: timeouts, local errors, invalid responses.
	GivenUp   int64 // Clients that do not try again, because they would be refused again.
	Held      int64 // Clients that have been connected and subscribed.
	Open      int64 // Held clients that are still connected.
	Closed    int64 // Held clients that were disconnected, but not by Close.
	// Held clients that Close has disconnected properly, with a close frame and the server's end of the stream.
	Left int64

	Deliveries    int64 // Records of this run, including duplicates.
	DeliveryBytes int64 // Bytes of the values of these records.
	WireBytes     int64 // Bytes read from sockets.
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

// reasonsMax is the maximum number of reasons in each map. Further reasons are counted together.
const reasonsMax = 32

func count(m *map[string]int64, reason string) {
	if *m == nil {
		*m = map[string]int64{}
	}
	if _, known := (*m)[reason]; !known && len(*m) >= reasonsMax {
		reason = "other"
	}
	(*m)[reason]++
}

func (c *Counters) clone() Counters {
	n := *c
	n.Closes, n.Refusals, n.Failures = maps.Clone(c.Closes), maps.Clone(c.Refusals), maps.Clone(c.Failures)
	return n
}

func (c *Counters) add(o *Counters) {
	for _, p := range [][2]*int64{
		{&c.Attempts, &o.Attempts}, {&c.Connected, &o.Connected}, {&c.Left, &o.Left}, {&c.Refused, &o.Refused},
		{&c.Failed, &o.Failed}, {&c.GivenUp, &o.GivenUp}, {&c.Held, &o.Held}, {&c.Open, &o.Open},
		{&c.Closed, &o.Closed}, {&c.Deliveries, &o.Deliveries}, {&c.DeliveryBytes, &o.DeliveryBytes},
		{&c.WireBytes, &o.WireBytes}, {&c.Foreign, &o.Foreign},
		{&c.Corrupt, &o.Corrupt}, {&c.Unexpected, &o.Unexpected}, {&c.Gaps, &o.Gaps}, {&c.Lost, &o.Lost},
		{&c.LostClosed, &o.LostClosed},
		{&c.Duplicates, &o.Duplicates}, {&c.Reordered, &o.Reordered}, {&c.Pings, &o.Pings}, {&c.Behind, &o.Behind},
	} {
		*p[0] += *p[1]
	}
	addReasons(&c.Closes, o.Closes)
	addReasons(&c.Refusals, o.Refusals)
	addReasons(&c.Failures, o.Failures)
}

func addReasons(to *map[string]int64, from map[string]int64) {
	for reason, n := range from {
		if *to == nil {
			*to = map[string]int64{}
		}
		(*to)[reason] += n
	}
}

// The range of histograms in microseconds. Values outside count as the limit.
const (
	microsMin = 1
	microsMax = 60_000_000
	digitsHDR = 3
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(microsMin, microsMax, digitsHDR) }

func record(h *hdrhistogram.Histogram, nanos int64) {
	if err := h.RecordValue(min(max(nanos/1000, microsMin), microsMax)); err != nil {
		panic(fmt.Sprintf("BUG: %d µs in the histogram: %v", nanos/1000, err))
	}
}
