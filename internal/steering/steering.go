package steering

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"wsd/internal/routing"
)

// Mode is what the option steering.mode asks for.
type Mode string

// The modes.
const (
	ModeAuto    Mode = "auto"    // Steer where possible, else the kernel's hash.
	ModeRequire Mode = "require" // Steer, or it is an error. Pins are not required.
	ModeOff     Mode = "off"     // The kernel's hash.
)

// What Status.Mode tells.
const (
	Pinned   = "ebpf-pinned" // The program chooses; its maps are pinned.
	Unpinned = "ebpf"        // The program chooses; no other process finds its maps by a path.
	Hash     = "hash"        // The kernel's hash of addresses and ports chooses.
)

// Options is what New needs.
type Options struct {
	Mode   Mode
	PinDir string // Directory on a bpffs; the pins go into <PinDir>/<port>/.
	// PinGroup is the group that pins and their directory belong to, by number; -1: the process's own.
	PinGroup   int
	Port       int            // Of the first group if it is known before it listens, else 0.
	Shards     int            // 1 to routing.ShardsMax.
	Groups     int            // Number of listen addresses, at least 1.
	Values     Values         // What the settings begin with, each entry of each setting in range.
	Exempt     []netip.Prefix // What source_rate does not apply to; at most 1024.
	SourcesMax int            // Sources that source_rate remembers; 0: 65,536. About 100 bytes of kernel memory each, taken at start.
	Logger     *slog.Logger
}

// Status tells how connections are placed. After Publish it changes only when somebody
// removes the pins.
type Status struct {
	Mode    string // Pinned, Unpinned or Hash.
	Reason  string // In one line why not more than Mode or, pinned, who alone sees the pins; may be empty then.
	PinPath string // Directory of the pins; empty unless pinned.
}

// Steering owns what one server has in the kernel to place its connections.
type Steering struct {
	// Fixed after New.
	options    Options
	configured Values
	slots      []Slot

	status atomic.Pointer[Status]

	// Of the goroutine that calls New, Attach, Add, Publish and Close.
	pins      *pins  // nil before they are claimed, and when there are none.
	pinErr    error  // Why not.
	pinNote   string // Of a bpffs that had to be mounted.
	listeners [][]int

	// Of the goroutine that calls Reconcile and Watch.
	pending  []pendings
	reported struct{ changed, ignored map[string]string } // As Watch last saw them.
	watched  struct{ changed, ignored atomic.Int64 }      // How many they were.

	mu       sync.Mutex // Guards what follows.
	objects  *objects   // nil where the kernel's hash chooses, and after Close
	outcomes steerOutcomeCounts
}

// New loads the program, and nothing changes yet for any connection. Then, in this
// order: Attach for each group before its first socket listens; Add for each socket
// as soon as it listens; Publish.
//
// With ModeAuto a kernel that refuses is no error, then or later: one warning says
// why, and the kernel's hash chooses. With ModeRequire it is. Pins that cannot be
// made cost a warning in either mode.
func New(o Options) (*Steering, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	configured, err := o.Values.clone(o.Shards)
	if err != nil {
		return nil, err
	}
	s := &Steering{
		options: o, configured: configured, listeners: make([][]int, o.Groups), pending: make([]pendings, o.Shards),
	}
	if o.Mode == ModeOff {
		s.useHash("steering.mode is off")
		return s, nil
	}
	if err := s.load(); err != nil {
		return s, s.refused(err)
	}
	return s, nil
}

func (o Options) validate() error {
	switch o.Mode {
	case ModeAuto, ModeRequire, ModeOff:
	default:
		return fmt.Errorf("BUG: steering mode %q", o.Mode)
	}
	if o.Shards < 1 || o.Shards > routing.ShardsMax || o.Groups < 1 || o.Logger == nil {
		return fmt.Errorf("BUG: steer %d groups to %d shards", o.Groups, o.Shards)
	}
	return nil
}

// load does what New can fail at; what it leaves behind when it fails is nothing.
func (s *Steering) load() error {
	if s.options.Port != 0 {
		s.claimPins(s.options.Port)
	}
	spec, err := newSpec(s.options)
	if err != nil {
		return err
	}
	objects, err := load(spec, s.options, s.pins.takeSockets)
	if err != nil {
		return err
	}
	t, err := mapTable(objects.slots)
	if err != nil {
		objects.close()
		return err
	}
	s.slots = t.slice(s.options.Shards)
	s.setStallBound(s.configured)
	for i := range s.slots {
		s.slots[i].SetDraining(true) // Until it listens.
	}
	s.objects = objects
	s.status.Store(&Status{Mode: Unpinned, Reason: "its maps are not pinned yet"})
	return nil
}

// claimPins begins with the pins, as soon as the port is known.
func (s *Steering) claimPins(port int) {
	s.pins, s.pinNote, s.pinErr = claimPins(s.options, port)
	if s.pinNote != "" {
		s.options.Logger.Info("mounted a bpffs", "reason", s.pinNote)
	}
}

// refused is what a refusal by the kernel means: an error, or the kernel's hash.
func (s *Steering) refused(err error) error {
	s.giveUp()
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		s.options.Logger.Debug("log of the verifier", "log", fmt.Sprintf("%+v", verifier))
	}
	if s.options.Mode == ModeRequire {
		return fmt.Errorf("steer connections as steering.mode require asks: %w", err)
	}
	s.useHash(oneLine(err))
	s.options.Logger.Warn("not steering: the kernel's hash chooses the shards", "reason", s.Status().Reason)
	return nil
}

// giveUp takes back what was done before something failed.
func (s *Steering) giveUp() {
	for _, fds := range s.listeners {
		if len(fds) > 0 {
			_ = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
		}
	}
	s.pins.discard()
	s.pins = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects != nil {
		s.objects.close()
		s.objects = nil
	}
}

func (s *Steering) useHash(reason string) {
	s.status.Store(&Status{Mode: Hash, Reason: reason})
	s.slots = memoryTable().slice(s.options.Shards)
}

// Attach makes the program choose for the group of a socket that has SO_REUSEPORT and
// is not bound yet: so that it chooses from the first connection on. An error means
// that steering was required.
func (s *Steering) Attach(group, fd int) error {
	if s.objects == nil {
		return nil
	}
	if err := s.objects.attach(group, fd); err != nil {
		return s.refused(err)
	}
	return nil
}

// Add gives the program the listener of the group's next shard. The descriptor stays
// the caller's; it must stay open until after the last Reconcile. An error means that
// steering was required.
func (s *Steering) Add(group, fd int) error {
	if s.objects == nil {
		return nil
	}
	shard := len(s.listeners[group])
	if shard >= len(s.slots) {
		return fmt.Errorf("BUG: listener %d of group %d for %d shards", shard, group, len(s.slots))
	}
	s.listeners[group] = append(s.listeners[group], fd)
	if err := s.objects.add(group, shard, fd); err != nil {
		return s.refused(err)
	}
	if !slices.ContainsFunc(s.listeners, func(fds []int) bool { return len(fds) <= shard }) {
		s.slots[shard].SetDraining(false) // It listens everywhere.
	}
	return nil
}

// Publish pins the maps in <PinDir>/<port>/, when every listener was added.
func (s *Steering) Publish(port int) {
	if s.objects == nil {
		return
	}
	if s.pins == nil && s.pinErr == nil {
		s.claimPins(port)
	}
	if s.pinErr == nil {
		s.pinErr = s.pins.publish(s.objects, s.options.Shards)
	}
	logger := s.options.Logger
	if s.pinErr != nil {
		s.pins = nil
		s.status.Store(&Status{Mode: Unpinned, Reason: oneLine(s.pinErr)})
		logger.Warn("steering without pins: bpftool finds the maps by id only", "reason", s.Status().Reason)
		return
	}
	s.status.Store(&Status{Mode: Pinned, Reason: s.pinNote, PinPath: s.pins.dir})
	if s.pins.replaced != "" {
		logger.Info("replaced the pins of a wsd that ended without removing them", "pins", s.pins.dir, "owner", s.pins.replaced,
			"sockarrays_taken_over", s.pins.taken)
	}
}

// Status returns how connections are placed. Any goroutine may call it.
func (s *Steering) Status() Status { return *s.status.Load() }

// Slot returns the shard's slot, never nil. Any goroutine may call it after Publish;
// who may use which method of a Slot, they say. A shard that New was not told of is
// a BUG.
func (s *Steering) Slot(id routing.ShardID) *Slot {
	if int(id) >= len(s.slots) {
		panic(fmt.Sprintf("BUG: slot of shard %d, there are %d", id, len(s.slots)))
	}
	return &s.slots[id]
}

// Close removes the pins and gives up the maps. The program itself chooses as
// long as one of its listeners is open. Slots, Status and Outcomes stay usable.
func (s *Steering) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		return nil
	}
	s.readOutcomes()
	s.objects.close()
	s.objects = nil
	return s.pins.remove()
}
