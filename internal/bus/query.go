package bus

// Query asks for records of a channel that the bus no longer holds, or never did.
type Query struct {
	Channel string
	Epoch   string // Of the channel's stream.
	After   uint64 // Records with a higher offset are asked for,
	UpTo    uint64 // and with this one or a lower one.
	Most    int    // How many at most.
	Kind    QueryKind
}

// QueryKind says which records a query is about when there are more than Query.Most, or more than can be had.
type QueryKind uint8

// The kinds of queries.
const (
	QueryAll   QueryKind = iota // All of them, or the query fails.
	QueryFirst                  // The first ones. It fails when not all before them can be had.
	QueryLast                   // The last ones, as many as can be had.
)

// Result is how a query ended. ResultOK is success, the others are not.
type Result uint8

// The results.
const (
	ResultOK       Result = iota
	ResultEpoch           // The channel has no stream of that epoch, now.
	ResultAhead           // The stream ends before Query.After.
	ResultGone            // The log begins behind Query.After.
	ResultLimit           // More records, or bytes, than a query may have or a read may take.
	ResultTimeout         // Not in time.
	ResultOverload        // Too many queries wait, or their answers hold too much.
	ResultError           // What is in the log cannot be read.
	resultCount
)

var resultNames = [resultCount]string{"ok", "epoch", "ahead", "gone", "limit", "timeout", "overload", "error"}

// String is the result's metric label.
func (r Result) String() string { return resultNames[r] }

// Results lists every result.
func Results() []Result {
	list := make([]Result, resultCount)
	for i := range list {
		list[i] = Result(i)
	}
	return list
}

// Answer is what came of a query.
type Answer struct {
	Result  Result
	Records []Record // In the order of their offsets, shared with other answers: not to be changed. QueryLast may have some of a failed query.
	Kafka   bool     // A part of the range was read from Kafka again.
}
