package control

import (
	"encoding/json"
	"errors"
	"net/http"
)

// changeMax is the largest body of a change, which normally has some dozen bytes.
const changeMax = 4 << 10

// NewHandler returns a handler for the requests of this package's client: it serves GET /health with health, GET and
// POST /steering with steerer, and POST /kafka/skip with skipper. Other paths get status 404, other methods 405.
func NewHandler(health http.Handler, steerer Steerer, skipper Skipper) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+HealthPath, health)
	mux.HandleFunc("GET "+SteerPath, func(w http.ResponseWriter, _ *http.Request) { writeState(w, steerer) })
	mux.HandleFunc("POST "+SteerPath, func(w http.ResponseWriter, r *http.Request) {
		var change SteerChange
		err := readBody(w, r, &change, "change", `{"setting":"weight","shard":3,"value":"200"}`)
		if err == nil {
			err = steerer.Steer(change)
		}
		if err != nil {
			writeError(w, err)
			return
		}
		writeState(w, steerer)
	})
	mux.HandleFunc("POST "+SkipPath, func(w http.ResponseWriter, r *http.Request) { handleSkip(w, r, skipper) })
	return mux
}

func writeState(w http.ResponseWriter, steerer Steerer) {
	state, err := steerer.SteerState()
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, state)
}

// problem is the body of a response with another status than 200.
type problem struct {
	Error string `json:"error"`
}

func writeError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		status = refusal.Status
	}
	writeJSON(w, status, problem{err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // Fails only if the client has closed the connection.
}
