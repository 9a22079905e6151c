package bus

import "sync/atomic"

// Query asks for records of a channel that the bus no longer holds, or never held: those with an offset in (After,
// UpTo].
type Query struct {
	Channel    string
	Epoch      string // The epoch of the channel's stream.
	After      uint64 // Records with this offset or a lower one are not part of the answer.
	UpTo       uint64 // Records with a higher offset are not part of the answer.
	RecordsMax int    // The most records that the answer may have.
	BytesMax   int    // The most bytes of the answer's records, see RecordBytes; it may have one record in any case. 0: no limit.
	CountMax   int    // QueryNext fails with ResultLimit if there are more records than this in (After, UpTo]. 0: not counted.
	Owner      uint64 // Who asks: owners share what the answers cost.
	Kind       QueryKind

	// Canceled is set when nobody wants the answer any longer. It may be nil.
	Canceled *atomic.Bool
}

// QueryKind says which records a query asks for if there are more than Query.RecordsMax, or if not all are available.
type QueryKind uint8

// The kinds of queries.
const (
	QueryNext QueryKind = iota // The first ones. The query fails if a record before them is not available.
	QueryLast                  // The last ones, as many as are available.
)

// Result is how a query ended. ResultOK is success; the others are failures.
type Result uint8

// The results.
const (
	ResultOK       Result = iota
	ResultEpoch           // The channel has no stream of that epoch now.
	ResultAhead           // The stream ends before Query.After.
	ResultGone            // The log begins after Query.After.
	ResultLimit           // More records or bytes than a query may have, or than one read may take.
	ResultTimeout         // The answer was not ready in time.
	ResultOverload        // Too many queries wait, or their answers hold too many bytes.
	ResultError           // The log cannot be read.
	ResultCanceled        // Query.Canceled was set.
	resultCount
)

var resultNames = [resultCount]string{"ok", "epoch", "ahead", "gone", "limit", "timeout", "overload", "error", "canceled"}

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
	More    bool     // QueryNext: there are other records up to UpTo.
	Through uint64   // QueryNext: the answer is complete up to this offset; without More, Query.UpTo.
	Kafka   bool     // A part of the range was read from Kafka again.
}

// recordOverhead is what a record takes beside its bytes.
const recordOverhead = 100

// RecordBytes is what a record counts in the limits of queries and answers: the larger of its two forms, of which a client
// gets one, and an overhead.
func RecordBytes(r *Record) int { return max(len(r.Value), len(r.JSON)) + recordOverhead }
