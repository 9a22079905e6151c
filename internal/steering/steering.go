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

// Mode is the value of the option steering.mode.
type Mode string

// The modes.
const (
	ModeAuto    Mode = "auto"    // Load the program if possible, else use the kernel's hash.
	ModeRequire Mode = "require" // Load the program, or return an error. Pins are not required.
	ModeOff     Mode = "off"     // Use the kernel's hash.
)

// Values of Status.Mode.
const (
	Pinned   = "ebpf-pinned" // The program chooses, and its maps are pinned.
	Unpinned = "ebpf"        // The program chooses. Its maps have no path by which other processes could find them.
	Hash     = "hash"        // The kernel's hash of addresses and ports chooses.
)

// Options is what New needs.
type Options struct {
	Mode     Mode           // Whether to load the program.
	PinDir   string         // Directory on a bpffs. The pins go into <PinDir>/<port>/.
	PinGroup int            // Gid of the pins and their directory; -1: that of the process.
	Port     int            // Port of the first listen address, or 0 if it is not known before the socket listens.
	Shards   int            // Number of shards, 1 to routing.ShardsMax.
	Groups   int            // Number of listen addresses, at least 1.
	Values   Values         // Initial values of the settings. Every entry must be in range.
	Exempt   []netip.Prefix // Prefixes that source_rate does not apply to, at most 1024.
	// Client addresses tracked for source_rate, about 100 bytes of kernel memory each, reserved at start; 0: 65,536.
	SourcesMax int
	Logger     *slog.Logger // Gets changes of the status and the settings.
}

// Status says what chooses the shards. After Publish it changes only if someone removes the pins.
type Status struct {
	Mode    string // Pinned, Unpinned or Hash.
	Reason  string // Why Mode is not better, in one line. If Mode is Pinned: who can see the pins, or empty.
	PinPath string // Directory of the pins; empty unless Mode is Pinned.
}

// Steering owns the program, the maps and the pins of one server.
type Steering struct {
	// Fixed after New.
	options    Options
	configured Values // Copy of options.Values.
	slots      []Slot // One for each shard.

	// Any goroutine may read these.
	status  atomic.Pointer[Status]
	watched struct{ changed, ignored atomic.Int64 } // Numbers of remarks at the last call of Watch.

	// Owned by the goroutine that calls New, Attach, Add, Publish and Close.
	pins      *pins   // Pins of the server; nil before claimPins, and without pins.
	pinErr    error   // Why there are no pins.
	pinNote   string  // Describes the mount of a bpffs; empty: none was mounted.
	listeners [][]int // Descriptors of the listeners, by group and shard.

	// Owned by the goroutine that calls Reconcile and Watch.
	handshakes []handshakeWindow                            // One for each shard.
	reported   struct{ changed, ignored map[string]string } // Remarks at the last call of Watch, by entry.

	mu        sync.Mutex         // Guards the following.
	admission uint32             // What SetAdmission has set.
	refusing  bool               // What Refuse has set.
	objects   *objects           // Maps and programs; nil where the kernel's hash chooses, and after Close.
	outcomes  steerOutcomeCounts // The program's counters at the last call of readOutcomes.
}

// New loads the program. It does not affect any connection yet. The caller then calls Attach for each group before the
// first socket of the group listens, Add for each socket as soon as it listens, and Publish.
//
// If the kernel refuses the program, now or later, ModeRequire returns an error. ModeAuto logs a warning with the
// reason, and the kernel's hash chooses. In both modes it is only a warning if the maps cannot be pinned.
func New(o Options) (*Steering, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	configured, err := o.Values.clone(o.Shards)
	if err != nil {
		return nil, err
	}
	s := &Steering{
		options: o, configured: configured, listeners: make([][]int, o.Groups),
		handshakes: make([]handshakeWindow, o.Shards),
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

// load loads the program and maps the slots. If it fails, it leaves nothing behind.
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
		s.slots[i].SetDraining(true) // Until the shard listens.
	}
	s.objects = objects
	s.status.Store(&Status{Mode: Unpinned, Reason: "the maps are not pinned yet"})
	return nil
}

// claimPins prepares the pins, as soon as the port is known.
func (s *Steering) claimPins(port int) {
	s.pins, s.pinNote, s.pinErr = claimPins(s.options, port)
	if s.pinNote != "" {
		s.options.Logger.Info("mounted a bpffs", "reason", s.pinNote)
	}
}

// refused handles a refusal by the kernel: it returns an error with ModeRequire, and else switches to the kernel's
// hash.
func (s *Steering) refused(err error) error {
	s.giveUp()
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		s.options.Logger.Debug("the verifier's log", "log", fmt.Sprintf("%+v", verifier))
	}
	if s.options.Mode == ModeRequire {
		return fmt.Errorf("steer connections (steering.mode is require): %w", err)
	}
	s.useHash(oneLine(err))
	s.options.Logger.Warn("not steering: the kernel's hash chooses the shards", "reason", s.Status().Reason)
	return nil
}

// giveUp detaches the program and releases pins, maps and programs.
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
	s.setStallBound(s.configured)
}

// Attach makes the program choose for the group of a socket, which has SO_REUSEPORT and is not bound yet, so that the
// program chooses from the first connection on. It returns an error only with ModeRequire.
func (s *Steering) Attach(group, fd int) error {
	if s.objects == nil {
		return nil
	}
	if err := s.objects.attach(group, fd); err != nil {
		return s.refused(err)
	}
	return nil
}

// Add gives the program the listener of the group's next shard. The caller keeps the descriptor, and must keep it open
// until after the last call of Reconcile. Add returns an error only with ModeRequire.
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
		s.slots[shard].SetDraining(false) // The shard listens on every address.
	}
	return nil
}

// Publish pins the maps in <PinDir>/<port>/. The caller must have added every listener. Without pins it logs a warning.
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
		logger.Warn("steering without pins: bpftool can find the maps only by id", "reason", s.Status().Reason)
		return
	}
	s.status.Store(&Status{Mode: Pinned, Reason: s.pinNote, PinPath: s.pins.dir})
	if s.pins.replaced != "" {
		logger.Info("replaced the pins of a wsd that ended without removing them", "pins", s.pins.dir, "owner",
			s.pins.replaced,
			"sockarrays_taken_over", s.pins.taken)
	}
}

// Status returns what chooses the shards. Any goroutine may call it.
func (s *Steering) Status() Status { return *s.status.Load() }

// Slot returns the slot of a shard. It is never nil; Slot panics if the shard does not exist. Any goroutine may call it
// after Publish. The methods of a Slot say who may call them.
func (s *Steering) Slot(id routing.ShardID) *Slot {
	if int(id) >= len(s.slots) {
		panic(fmt.Sprintf("BUG: slot of shard %d of %d", id, len(s.slots)))
	}
	return &s.slots[id]
}

// Close removes the pins and closes the maps. The program continues to choose as long as one of its listeners is open.
// Slots, Status and Outcomes stay usable.
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
