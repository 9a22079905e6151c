package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	body, status, err := request(ctx, socketPath, http.MethodPost, SkipPath, body)
	if err != nil {
		return result, err
	}
	if status != http.StatusOK {
		var p problem
		if err := json.Unmarshal(body, &p); err != nil || p.Error == "" {
			return result, otherVersion(SkipPath, socketPath, fmt.Sprintf("status %d", status))
		}
		return result, &Refusal{Status: status, Text: p.Error}
	}
	if err := json.Unmarshal(body, &result); err != nil {
		return result, otherVersion(SkipPath, socketPath, err.Error())
	}
	return result, nil
}

// handleSkip serves POST SkipPath.
func handleSkip(w http.ResponseWriter, r *http.Request, skipper Skipper) {
	var asked SkipRequest
	err := readBody(w, r, &asked, "request", `{"topic":"orders","partition":3,"to":4711}`)
	if err == nil && asked.End && asked.To != nil {
		err = &Refusal{Status: http.StatusBadRequest, Text: "to and end exclude each other: send one of them"}
	}
	var result SkipResult
	if err == nil {
		result, err = skipper.Skip(asked)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, result)
}

// readBody reads the body of a request into v. It refuses a body that contains anything else. Kind and example are for
// the error.
func readBody(w http.ResponseWriter, r *http.Request, v any, kind, example string) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, changeMax))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(v)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("unexpected data after it")
		}
	}
	remedy := ": send it like " + example
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return &Refusal{Status: http.StatusRequestEntityTooLarge, Text: "the " + kind + " is too large" + remedy}
	}
	return &Refusal{Status: http.StatusBadRequest, Text: "the " + kind + " is not valid: " + err.Error() + remedy}
}
