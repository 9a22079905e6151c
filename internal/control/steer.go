package control

// SteerState says how new connections are assigned to shards, and what each shard carries.
type SteerState struct {
	Mode         string         `json:"mode"`          // What chooses the shards: ebpf-pinned, ebpf or hash.
	Reason       string         `json:"reason"`        // Why Mode is not better; may be empty.
	PinPath      string         `json:"pin_path"`      // Directory of the pins; empty unless Mode is ebpf-pinned.
	Policy       string         `json:"policy"`        // Policy that applies.
	Shards       []SteerShard   `json:"shards"`        // All shards, by id.
	Settings     []SteerSetting `json:"settings"`      // All settings; those that each shard has, once for each shard.
	AdmissionWsd uint32         `json:"admission_wsd"` // Percentage that wsd itself refuses. The higher of it and the setting admission applies.
	Exempt       []string       `json:"exempt"`        // Prefixes that source_rate does not apply to.
	Ends         []SteerCount   `json:"ends"`          // Runs of the program, by how they ended.
	Notes        []SteerCount   `json:"notes"`         // Conditions that runs of the program met.
}

// SteerShard is the steering state of one shard.
type SteerShard struct {
	ID          int     `json:"id"`
	Connections int64   `json:"connections"`         // Open connections: accepted and not closed.
	Load        int64   `json:"load"`                // Open and pending connections, which the program compares.
	Pending     int64   `json:"pending"`             // Pending connections: picked, but not accepted.
	Picked      uint64  `json:"picked"`              // SYNs for which the program chose this shard.
	Migrated    uint64  `json:"migrated"`            // Connections moved here because their listener was closed.
	Accepted    uint64  `json:"accepted"`            // Connections taken from the accept queues.
	Closed      uint64  `json:"closed"`              // Accepted connections that have ended.
	Uncounted   uint64  `json:"uncounted"`           // Connections accepted without a pick.
	Lost        uint64  `json:"lost"`                // Picks written off because they were not accepted.
	Weight      uint32  `json:"weight"`              // Weight that applies.
	Drain       bool    `json:"drain"`               // Whether an operator wants no new connections here.
	Draining    bool    `json:"draining"`            // Whether wsd itself wants no new connections here.
	StalledFor  float64 `json:"stalled_for_seconds"` // How long the current turn has taken, if longer than stall_bound; else 0.
	Ramping     bool    `json:"ramping"`             // Whether the last stall ended less than ramp ago.
	Full        bool    `json:"full"`                // Whether Pending is over pending_max.
}

// SteerSetting is one value of one setting.
type SteerSetting struct {
	Name       string `json:"name"`            // Name of the setting.
	Shard      *int   `json:"shard"`           // Shard of the value; nil for a setting that all shards share.
	Value      uint32 `json:"value"`           // Number in the map.
	Text       string `json:"text"`            // Value as people write it.
	Configured string `json:"configured_text"` // Configured value, as people write it.
	InForce    string `json:"in_force_text"`   // Value that applies, as people write it: not Text if that is out of range.
	Changed    bool   `json:"changed"`         // Whether the value differs from the configured one.
	Ignored    bool   `json:"ignored"`         // Whether the value is out of range.
}

// SteerCount is one counter of the program.
type SteerCount struct {
	Name  string `json:"name"`
	Count uint64 `json:"count"`
}

// SteerChange is a request to change one setting.
type SteerChange struct {
	Setting string `json:"setting"`         // Name of the setting.
	Shard   *int   `json:"shard,omitempty"` // Shard whose value changes; nil for a setting that all shards share.
	Value   string `json:"value"`           // New value as people write it, such as 200, 150ms, true or p2c.
}

// Refusal is an error that the server reports with a status of its own. A Steerer returns one to choose the status; any
// other error becomes an internal server error.
type Refusal struct {
	// http.StatusBadRequest for a wrong request, http.StatusConflict where the kernel's hash chooses, so that nothing
	// can be set.
	Status int
	Text   string // What is wrong, and the remedy.
}

// Error returns the text.
func (r *Refusal) Error() string { return r.Text }

// Steerer returns and changes the steering state for the handler. Any goroutine may call both methods.
type Steerer interface {
	SteerState() (SteerState, error)
	Steer(change SteerChange) error
}
