package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// SkipRequest asks wsd to move on in a partition of a Kafka topic.
type SkipRequest struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	To        *int64 `json:"to,omitempty"`  // Offset to go on at; nil to skip one offset, unless End.
	End       bool   `json:"end,omitempty"` // Go on at the end of the log. To must be nil.
}

// SkipResult says which offsets were skipped.
type SkipResult struct {
	From int64 `json:"from"` // The first offset that was skipped.
	Next int64 `json:"next"` // The offset at which reading goes on.
}

// Skipper moves on in a partition for the handler. The error is a *Refusal if the request was wrong. Any goroutine may
// call it.
type Skipper interface {
	Skip(r SkipRequest) (SkipResult, error)
}

// Skip asks the wsd that serves on the socket to move on in a partition. The error is a *Refusal, or says why there was
// no response, like that of Health. A *Refusal means that nothing has changed.
func Skip(ctx context.Context, socketPath string, r SkipRequest) (result SkipResult, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return result, fmt.Errorf("BUG: write a request: %w", err)
	}
	err = ask(ctx, socketPath, http.MethodPost, SkipPath, body, &result)
	return result, err
}

// handleSkip serves POST SkipPath.
func handleSkip(w http.ResponseWriter, r *http.Request, skipper Skipper) {
	asked, err := readBody[SkipRequest](w, r, "request", `{"topic":"orders","partition":3,"to":4711}`)
	if err == nil && asked.End && asked.To != nil {
		err = &Refusal{Status: http.StatusBadRequest, Text: "to and end exclude each other: send one of them"}
	}
	var result SkipResult
	if err == nil {
		result, err = skipper.Skip(asked)
	}
	Answer(w, result, err)
}
