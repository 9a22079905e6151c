package control

import "time"

// DrainState says whether wsd is closing its clients on purpose, and how far it is.
type DrainState struct {
	Status         string     `json:"status"`           // off; draining; drained: no client is left; stopping: wsd is about to exit.
	Clients        int64      `json:"clients"`          // Clients that are connected.
	ClientsAtStart int64      `json:"clients_at_start"` // Clients that were connected when the drain began.
	Closed         uint64     `json:"closed"`           // Clients that the drain has closed.
	Since          *time.Time `json:"since,omitempty"`  // When the drain began; absent while Status is off.
	Until          *time.Time `json:"until,omitempty"`  // When the last client is to be closed; absent while Status is off.
	Rate           float64    `json:"rate"`             // Clients to close each second; 0: evenly until Until.
}

// DrainChange is a request to begin a drain, to give the one that is on another pace, or to end it.
type DrainChange struct {
	OverSeconds float64 `json:"over_seconds,omitempty"` // Time over which clients are closed evenly.
	Rate        float64 `json:"rate,omitempty"`         // Clients to close each second, in place of OverSeconds.
	Stop        bool    `json:"stop,omitempty"`         // Whether to end the drain and serve again.
}

// Drainer returns and changes the state of the drain for the handler. Drain returns a *Refusal to choose the status of
// the response. Any goroutine may call both methods.
type Drainer interface {
	DrainState() DrainState
	Drain(change DrainChange) error
}
