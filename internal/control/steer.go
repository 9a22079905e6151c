package control

// SteerState is how new connections find their shard, at one moment.
type SteerState struct {
	Mode     string         `json:"mode"`     // ebpf-pinned, ebpf or hash.
	Reason   string         `json:"reason"`   // Why not more than Mode; may be empty.
	PinPath  string         `json:"pin_path"` // Directory of the pins; empty unless pinned.
	Policy   string         `json:"policy"`   // The one in force.
	Shards   []SteerShard   `json:"shards"`
	Settings []SteerSetting `json:"settings"` // Every one, those of shards once for each shard.
	// AdmissionWsd is wsd's own admission level; the stricter of it and the setting admission holds.
	AdmissionWsd uint32       `json:"admission_wsd"`
	Exempt       []string     `json:"exempt"` // Prefixes that source_rate does not apply to.
	Ends         []SteerCount `json:"ends"`   // How the program chose, or not.
	Notes        []SteerCount `json:"notes"`  // What happened on the way.
}

// SteerShard is what is known of one shard.
type SteerShard struct {
	ID          int     `json:"id"`
	Connections int64   `json:"connections"` // Accepted and not closed.
	Load        int64   `json:"load"`        // Those, and those on their way: what is compared.
	Pending     int64   `json:"pending"`     // Picked but not accepted.
	Picked      uint64  `json:"picked"`
	Migrated    uint64  `json:"migrated"`
	Accepted    uint64  `json:"accepted"`
	Closed      uint64  `json:"closed"`
	Uncounted   uint64  `json:"uncounted"`
	Lost        uint64  `json:"lost"`
	Weight      uint32  `json:"weight"`              // In force.
	Drain       bool    `json:"drain"`               // An operator wants no new connections here.
	Draining    bool    `json:"draining"`            // wsd itself wants none.
	StalledFor  float64 `json:"stalled_for_seconds"` // How long its turn has lasted, if that is over stall_bound now; else 0.
	Ramping     bool    `json:"ramping"`             // Its last stall is less than ramp ago.
	Full        bool    `json:"full"`                // Pending is over pending_max.
}

// SteerSetting is one value of one setting.
type SteerSetting struct {
	Name       string `json:"name"`
	Shard      *int   `json:"shard"` // Nil unless each shard has its own.
	Value      uint32 `json:"value"` // The number in the map.
	Text       string `json:"text"`
	Configured string `json:"configured_text"` // What it began with.
	InForce    string `json:"in_force_text"`   // What counts: not Text if that is out of range.
	Changed    bool   `json:"changed"`         // It is not what it began with.
	Ignored    bool   `json:"ignored"`         // It is out of range.
}

// SteerCount is how often something happened.
type SteerCount struct {
	Name  string `json:"name"`
	Count uint64 `json:"count"`
}

// SteerChange asks for another value of one setting.
type SteerChange struct {
	Setting string `json:"setting"`
	Shard   *int   `json:"shard,omitempty"` // For a setting that each shard has its own of, and only then.
	Value   string `json:"value"`           // As people write it: 200, 150ms, true, p2c.
}

// Refusal is an answer other than what was asked for. A Steerer returns one to choose the status; any other error is an internal one.
type Refusal struct {
	Status int    // http.StatusBadRequest: the request is wrong; http.StatusConflict: the kernel's hash chooses, so nothing can be set.
	Text   string // What is wrong, and the remedy.
}

// Error returns the text.
func (r *Refusal) Error() string { return r.Text }

// Steerer is what the handler asks. Any goroutine may call both methods.
type Steerer interface {
	SteerState() (SteerState, error)
	Steer(change SteerChange) error
}
