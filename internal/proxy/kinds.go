package proxy

import "log/slog"

// Kind is a kind of call.
type Kind uint8

// The kinds.
const (
	KindConnect    Kind = iota // Who is this client?
	KindRefresh                // May this connection go on, now that it has expired?
	KindSubscribe              // May this client subscribe to this channel?
	KindSubRefresh             // May this subscription go on, now that it has expired?
	KindRPC                    // Call this method.
	KindSend                   // Take this message. The client gets no reply.
	kindCount
)

var kindNames = [kindCount]string{"connect", "refresh", "subscribe", "sub_refresh", "rpc", "send"}

// String is the metric label of k.
func (k Kind) String() string { return kindNames[k] }

// LogValue implements slog.LogValuer, without which the log in JSON has the number.
func (k Kind) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Kinds lists every kind.
func Kinds() []Kind {
	list := make([]Kind, kindCount)
	for k := range list {
		list[k] = Kind(k)
	}
	return list
}

// isQuestion reports whether a call of the kind may be made again although it may have reached the backend.
func (k Kind) isQuestion() bool { return k != KindRPC && k != KindSend }

// Result is what became of a call.
type Result uint8

// The results.
const (
	ResultOK          Result = iota // The backend gave a result.
	ResultError                     // The backend answered with an error for the client.
	ResultDisconnect                // The backend has the client disconnected.
	ResultUnreachable               // No connection to the backend could be made.
	ResultBroken                    // The connection ended before the answer was complete.
	ResultTimeout                   // There was no answer within Options.Timeout.
	ResultStatus                    // The status of the response was not 200.
	ResultTooLarge                  // The answer is larger than Options.AnswerBytesMax.
	ResultMalformed                 // The answer is not one.
	ResultCanceled                  // The client went before the answer came.
	ResultBusy                      // Too many calls wait, or take too many bytes.
	ResultBadData                   // The client's data are not JSON, and Options.Binary is off: nothing was sent.
	ResultNoEndpoint                // No endpoint is for that.
	resultCount
)

var resultNames = [resultCount]string{
	"ok", "error", "disconnect", "unreachable", "broken", "timeout", "status", "too_large", "malformed", "canceled",
	"busy", "bad_data", "no_endpoint",
}

// String is the metric label of r.
func (r Result) String() string { return resultNames[r] }

// Results lists every result.
func Results() []Result {
	list := make([]Result, resultCount)
	for r := range list {
		list[r] = Result(r)
	}
	return list
}

// Failure is why a call has no answer. Its text contains nothing that a client sent, and no query of an endpoint.
type Failure struct {
	Result Result
	Cause  string // More about it, for the log; may be empty.
}

// Error implements error.
func (f *Failure) Error() string {
	if f.Cause == "" {
		return f.Result.String()
	}
	return f.Result.String() + ": " + f.Cause
}
