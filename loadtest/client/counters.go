package client

import (
	"fmt"
	"maps"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Counters is what clients have met. All but Open and Behind only grow, except that Lost shrinks when a record comes late.
type Counters struct {
	Attempts  int64 // Connections begun.
	Connected int64 // Of Attempts, those for which TCP made a connection.
	Refused   int64 // Attempts that the server answered by a refusal: HTTP status, error reply, close or RST before the subscription.
	Failed    int64 // Attempts that ended in another way: timeouts, local errors, broken answers.
	GivenUp   int64 // Clients that are not dialed again, since they would be refused again.
	Held      int64 // Clients that were connected and subscribed.
	Open      int64 // Of Held, those that still are.
	Closed    int64 // Of Held, those that were disconnected, not by Close.
	Left      int64 // Of Held, those that Close has ended in order: a close frame, and the server's end of the stream.

	Deliveries    int64 // Records of this run, duplicates included.
	DeliveryBytes int64 // Of the values of Deliveries.
	WireBytes     int64 // All that was read from sockets.
	Foreign       int64 // Records of another run, not checked.
	Corrupt       int64 // Records with other bytes than were produced.
	Unexpected    int64 // Messages that are no record and no ping, such as an unsubscription.
	Gaps          int64 // Times that numbers were skipped.
	Lost          int64 // Numbers that were skipped and did not come later.
	LostClosed    int64 // Records that clients did not get because they had been disconnected.
	Duplicates    int64 // Records that came again.
	Reordered     int64 // Records that came after a later one.
	Pings         int64 // Pings answered, native and in-band.
	Behind        int64 // Open clients that have not got the last record; set while draining.

	Closes   map[string]int64 // Closed, by close code or by what happened instead.
	Refusals map[string]int64 // Refused, by why.
	Failures map[string]int64 // Failed, by why.
}

// reasonsMax bounds the kinds of each map of reasons; more are counted together.
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
		{&c.Attempts, &o.Attempts}, {&c.Connected, &o.Connected}, {&c.Left, &o.Left}, {&c.Refused, &o.Refused}, {&c.Failed, &o.Failed}, {&c.GivenUp, &o.GivenUp}, {&c.Held, &o.Held}, {&c.Open, &o.Open},
		{&c.Closed, &o.Closed}, {&c.Deliveries, &o.Deliveries}, {&c.DeliveryBytes, &o.DeliveryBytes}, {&c.WireBytes, &o.WireBytes}, {&c.Foreign, &o.Foreign},
		{&c.Corrupt, &o.Corrupt}, {&c.Unexpected, &o.Unexpected}, {&c.Gaps, &o.Gaps}, {&c.Lost, &o.Lost}, {&c.LostClosed, &o.LostClosed},
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

// The range of histograms in microseconds; what is beyond counts as the limit.
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
