package control

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// changeMax is the largest body of a change, which normally has some dozen bytes.
const changeMax = 4 << 10

// NewHandler returns a handler for the requests of this package's client: it serves GET /health with health, GET and
// POST /steering with steerer, POST /kafka/skip with skipper, GET and POST /drain with drainer, and GET /clients and
// GET /channels with surveyor, and POST /disconnect with disconnecter. Other paths get status 404, other methods 405.
func NewHandler(health http.Handler, steerer Steerer, skipper Skipper, drainer Drainer, surveyor Surveyor,
	disconnecter Disconnecter,
) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST "+DisconnectPath, DisconnectHandler(disconnecter))
	mux.Handle("GET "+ClientsPath, ClientsHandler(surveyor))
	mux.Handle("GET "+ChannelsPath, ChannelsHandler(surveyor))
	mux.Handle("GET "+HealthPath, health)
	mux.Handle("GET "+SteerPath, SteeringHandler(steerer))
	mux.Handle("POST "+SteerPath, SteerHandler(steerer))
	mux.HandleFunc("POST "+SkipPath, func(w http.ResponseWriter, r *http.Request) { handleSkip(w, r, skipper) })
	mux.Handle("GET "+DrainPath, DrainingHandler(drainer))
	mux.Handle("POST "+DrainPath, DrainHandler(drainer))
	return mux
}

// SteeringHandler serves requests for the steering state.
func SteeringHandler(steerer Steerer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeState(w, steerer) })
}

// SteerHandler serves requests to change a setting of steering. The response is the state after the change.
func SteerHandler(steerer Steerer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		change, err := readBody[SteerChange](w, r, "change", `{"setting":"weight","shard":3,"value":"200"}`)
		if err == nil {
			err = steerer.Steer(change)
		}
		if err != nil {
			Answer(w, nil, err)
			return
		}
		writeState(w, steerer)
	})
}

// DrainingHandler serves requests for the state of the drain.
func DrainingHandler(drainer Drainer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		Answer(w, drainer.DrainState(), nil)
	})
}

// DrainHandler serves requests to begin, change or end the drain. The response is the state after the change.
func DrainHandler(drainer Drainer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		change, err := readBody[DrainChange](w, r, "change", `{"over_seconds":60}`)
		if err == nil {
			err = drainer.Drain(change)
		}
		Answer(w, drainer.DrainState(), err)
	})
}

// readBody reads the body of a request, which looks like example. It refuses a body that contains anything else. Kind
// is for the error.
func readBody[T any](w http.ResponseWriter, r *http.Request, kind, example string) (value T, err error) {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, changeMax))
	decoder.DisallowUnknownFields()
	if err = decoder.Decode(&value); err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return value, nil
		}
		if err == nil {
			err = errors.New("unexpected data after it")
		}
	}
	remedy := ": send it like " + example
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return value, &Refusal{Status: http.StatusRequestEntityTooLarge, Text: "the " + kind + " is too large" + remedy}
	}
	return value, &Refusal{Status: http.StatusBadRequest,
		Text: "the " + kind + " is not valid: " + err.Error() + remedy}
}

func writeState(w http.ResponseWriter, steerer Steerer) {
	state, err := steerer.SteerState()
	Answer(w, state, err)
}

// problem is the body of a response with another status than 200.
type problem struct {
	Error string `json:"error"`
}

// Answer writes the response to a request: body as JSON, or what is wrong, with the status of a *Refusal.
func Answer(w http.ResponseWriter, body any, err error) {
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, body)
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
