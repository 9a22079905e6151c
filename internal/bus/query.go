package bus

import (
	"net/netip"
	"sync/atomic"
)

// Query asks for records of a channel that the bus no longer holds, or never held: those with an offset in (After,
// UpTo].
type Query struct {
	Channel    string
	Epoch      string // The epoch of the channel's stream.
	After      uint64 // Records with this offset or a lower one are not part of the answer.
	UpTo       uint64 // Records with a higher offset are not part of the answer.
	RecordsMax int    // The most records that the answer may have, at least 1.

	// The most bytes that the answer's records may have, see RecordBytes. If there is a record, the answer has one
	// whatever its size. Zero means that there is no limit but that of the recovery's options.
	BytesMax int

	// A QueryNext fails with ResultLimit if (After, UpTo] has more records than that. If it is zero, or if the offsets
	// show that there are fewer, nothing is counted. Otherwise all records up to UpTo are, as far as the query's time
	// allows.
	CountMax int

	// If it is not zero, records with an earlier timestamp are as if they were gone: a QueryNext fails with ResultGone
	// if its answer would begin with one, and a QueryLast ends there. In milliseconds of Unix time, as Kafka has it.
	Oldest int64

	Kind  QueryKind
	Owner uint64 // Names the asker. Queries of different owners get their share of the work in turn.

	// Address is that of the client that the query is for, or an IPv6 network. The queries of one address may hold a
	// limited number of the places for queries that wait, and addresses get their share of the work in turn.
	Address netip.Addr

	// Nil, or set by the asker when it no longer wants the answer. The query then ends soon, with ResultCanceled.
	Canceled *atomic.Bool
}

// QueryKind says which records a query asks for if not all of them fit into the answer, or if not all are available.
type QueryKind uint8

// The kinds of queries.
const (
	// QueryNext asks for the first records after Query.After. It fails with ResultGone if the log begins after
	// Query.After.
	QueryNext QueryKind = iota
	// QueryLast asks for the last ones, as many as are available.
	QueryLast
)

// Result is how a query ended. ResultOK is success; the others are failures.
type Result uint8

// The results.
const (
	ResultOK       Result = iota
	ResultEpoch           // The channel has no stream of that epoch now.
	ResultAhead           // The stream ends before Query.After.
	ResultGone            // The log begins after Query.After.
	ResultLimit           // More than Query.CountMax records.
	ResultTimeout         // The answer was not ready in time.
	ResultOverload        // Too many queries wait, or their answers hold too many bytes.
	ResultError           // The log cannot be read.
	ResultCanceled        // The asker no longer wanted the answer.
	ResultShare           // Too many queries of Query.Address wait.
	resultCount
)

var resultNames = [resultCount]string{
	"ok", "epoch", "ahead", "gone", "limit", "timeout", "overload", "error", "canceled", "share",
}

// String returns the result as a metric's label has it.
func (r Result) String() string { return resultNames[r] }

// Results lists every result.
func Results() []Result {
	list := make([]Result, resultCount)
	for i := range list {
		list[i] = Result(i)
	}
	return list
}

// Answer is what a query ended with.
type Answer struct {
	Result  Result
	Records []Record // By offset. Other answers share them: do not change them. A failed QueryLast may have some.
	Kafka   bool     // A part of the range was read from Kafka again.

	// Of a QueryNext. Through is the offset up to which, inclusive, Records is complete. More reports that it is below
	// Query.UpTo, because the answer is full or because of the query's time, so that there may be others. An answer
	// with More may have no record, but then Through is above Query.After.
	More    bool
	Through uint64
}

// recordOverhead is how many bytes a record counts besides its value.
const recordOverhead = 100

// RecordBytes returns how many bytes a record counts where limits speak of the bytes of records. A value and its
// compact JSON count once, because a client gets one of them.
func RecordBytes(r *Record) int {
	return max(len(r.Value), len(r.JSON)) + recordOverhead + r.Info.Bytes()
}
