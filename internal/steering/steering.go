package steering

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cilium/ebpf"

	"wsd/internal/routing"
)

// Mode is what the option steering.mode asks for.
type Mode string

// The modes.
const (
	ModeAuto    Mode = "auto"    // Steer where possible, else the kernel's hash.
	ModeRequire Mode = "require" // Steer, or Start is an error. Pins are not required.
	ModeOff     Mode = "off"     // The kernel's hash.
)

// What Status.Mode tells.
const (
	Pinned   = "ebpf-pinned" // The program chooses; its maps are pinned.
	Unpinned = "ebpf"        // The program chooses; no other process finds its maps by a path.
	Hash     = "hash"        // The kernel's hash of addresses and ports chooses.
)

// Options is what Start needs.
type Options struct {
	Mode   Mode
	PinDir string  // Directory on a bpffs; the pins go into <PinDir>/<Port>/.
	Port   int     // Of the first group.
	Shards int     // 1 to routing.ShardsMax.
	Groups [][]int // Per listen address its listening descriptors, in shard order. They stay the caller's.
	Logger *slog.Logger
}

// Status tells how connections are placed. It does not change after Start.
type Status struct {
	Mode    string // Pinned, Unpinned or Hash.
	Reason  string // In one line why not more than Mode or, pinned, who alone sees the pins; may be empty then.
	PinPath string // Directory of the pins; empty unless pinned.
}

// Steering owns what one server has in the kernel to place its connections.
type Steering struct {
	// Fixed after Start.
	status Status
	slots  []Slot
	pins   *pins // nil unless pinned

	drifts []drift // Of the goroutine that calls Correct.

	mu       sync.Mutex // Guards what follows.
	objects  *objects   // nil where the kernel's hash chooses, and after Close
	counters Counters
}

// Start loads the program and attaches it to every group, or to none. From then
// on it chooses the listener of each new connection.
//
// With ModeAuto a kernel that refuses is no error: one warning says why, and the
// kernel's hash chooses. With ModeRequire it is. Pins that cannot be made cost
// a warning in either mode.
func Start(o Options) (*Steering, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Steering{drifts: make([]drift, o.Shards)}
	if o.Mode == ModeOff {
		s.useHash("steering.mode is off", o.Shards)
		return s, nil
	}
	err := s.start(o)
	if err == nil {
		return s, nil
	}
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		o.Logger.Debug("log of the verifier", "log", fmt.Sprintf("%+v", verifier))
	}
	if o.Mode == ModeRequire {
		return nil, fmt.Errorf("steer connections as steering.mode require asks: %w", err)
	}
	s.useHash(oneLine(err), o.Shards)
	o.Logger.Warn("not steering: the kernel's hash chooses the shards", "reason", s.status.Reason)
	return s, nil
}

func (o Options) validate() error {
	switch o.Mode {
	case ModeAuto, ModeRequire, ModeOff:
	default:
		return fmt.Errorf("BUG: steering mode %q", o.Mode)
	}
	if o.Shards < 1 || o.Shards > routing.ShardsMax || len(o.Groups) == 0 || o.Logger == nil {
		return fmt.Errorf("BUG: steer %d groups to %d shards", len(o.Groups), o.Shards)
	}
	for i, fds := range o.Groups {
		if len(fds) != o.Shards {
			return fmt.Errorf("BUG: group %d has %d listeners for %d shards", i, len(fds), o.Shards)
		}
	}
	return nil
}

func (s *Steering) useHash(reason string, shards int) {
	s.status = Status{Mode: Hash, Reason: reason}
	s.slots = memoryTable().slice(shards)
}

// start does what can fail; what it leaves behind when it fails is nothing.
func (s *Steering) start(o Options) (err error) {
	objects, err := load(o.Shards, o.Groups)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			objects.close()
		}
	}()
	t, err := mapTable(objects.slots)
	if err != nil {
		return err
	}
	// Pins are built aside, and seen by others only when the program chooses.
	pins, note, pinErr := preparePins(o.PinDir, o.Port, o.Shards, objects)
	if err := objects.attach(); err != nil {
		pins.discard()
		return err
	}
	if pinErr == nil {
		pinErr = pins.publish()
	}
	s.objects, s.slots = objects, t.slice(o.Shards)
	if pinErr != nil {
		s.status = Status{Mode: Unpinned, Reason: oneLine(pinErr)}
		o.Logger.Warn("steering without pins: bpftool finds the maps by id only", "reason", s.status.Reason)
		return nil
	}
	s.pins = pins
	s.status = Status{Mode: Pinned, Reason: note, PinPath: pins.dir}
	if note != "" {
		o.Logger.Info("mounted a bpffs", "reason", note)
	}
	return nil
}

// Status returns what Start arrived at. Any goroutine may call it.
func (s *Steering) Status() Status { return s.status }

// Slot returns the shard's slot, never nil. Any goroutine may call it; who may use
// which method of a Slot, they say. A shard that Start was not told of is a BUG.
func (s *Steering) Slot(id routing.ShardID) *Slot {
	if int(id) >= len(s.slots) {
		panic(fmt.Sprintf("BUG: slot of shard %d, there are %d", id, len(s.slots)))
	}
	return &s.slots[id]
}

// Close removes the pins and gives up the maps. The program itself chooses as
// long as one of its listeners is open. Slots, Status and Counters stay usable.
func (s *Steering) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		return nil
	}
	s.readCounters()
	s.objects.close()
	s.objects = nil
	if s.pins == nil {
		return nil
	}
	return s.pins.remove()
}
