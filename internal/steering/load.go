package steering

import (
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/cilium/ebpf"

	"golang.org/x/sys/unix"
)

// objects are the maps and programs of one server.
type objects struct {
	slots, outcomes, owner, sources, exempt *ebpf.Map

	settings map[string]*ebpf.Map // Maps of the settings, by the name of the setting.
	groups   []groupObjects       // One for each listen address, in the order of client.listen.
}

// groupObjects are the sockarray and the program of one listen address. A socket can be in only one sockarray, and a
// program refers to one sockarray, so each address has its own of both.
type groupObjects struct {
	sockets *ebpf.Map
	program *ebpf.Program
}

// TryLoad loads the steering program and its maps into the kernel as a server would with so many shards and tracked
// client addresses (Options.SourcesMax), and removes them again. It attaches and pins nothing. The error is the
// kernel's, explained in one line; it wraps ErrVerifier if the verifier refused the program.
func TryLoad(shards, sourcesMax int) error {
	o := Options{Shards: shards, Groups: 1, Values: DefaultValues(shards), SourcesMax: sourcesMax}
	spec, err := newSpec(o)
	if err != nil {
		return err
	}
	return tryLoad(spec, o)
}

func tryLoad(spec *ebpf.CollectionSpec, o Options) error {
	obj, err := load(spec, o, noSockets)
	if err == nil {
		obj.close()
	}
	return err
}

// noSockets is the takeSockets of a server that has found no sockarray of an earlier process.
func noSockets(int, *ebpf.MapSpec) *ebpf.Map { return nil }

// load creates the maps and one program for each group. Connections are not affected until a program is attached.
// takeSockets returns the sockarray that an earlier process left for a group, or nil. load owns what it returns.
func load(spec *ebpf.CollectionSpec, o Options, takeSockets func(group int, spec *ebpf.MapSpec) *ebpf.Map) (*objects,
	error) {
	obj := &objects{settings: make(map[string]*ebpf.Map)}
	if err := obj.create(spec, o, takeSockets); err != nil {
		obj.close()
		return nil, err
	}
	return obj, nil
}

// newSpec reads the embedded object and adapts it to the server.
func newSpec(o Options) (*ebpf.CollectionSpec, error) {
	spec, err := loadSteer()
	if err != nil {
		return nil, fmt.Errorf("BUG: read the embedded eBPF object: %w", err)
	}
	if err := adapt(spec, o); err != nil {
		return nil, fmt.Errorf("BUG: adapt the embedded eBPF object: %w", err)
	}
	return spec, nil
}

// adapt sets the sizes of maps and the constants, and removes the program that only tests run.
func adapt(spec *ebpf.CollectionSpec, o Options) error {
	delete(spec.Programs, steerProgChooseTest)
	// One entry for each shard, so that the program finds all, and an operator cannot set a shard that does not exist.
	for _, name := range []string{steerMapDrain, steerMapWeight, steerMapSockets} {
		spec.Maps[name].MaxEntries = uint32(o.Shards)
	}
	if o.SourcesMax > 0 {
		spec.Maps[steerMapSources].MaxEntries = uint32(o.SourcesMax)
	}
	for name, value := range map[string]uint32{
		steerVarShardCount: uint32(o.Shards), steerVarOtherCount: uint32(max(1, o.Shards-1)),
		steerVarCpuCount: uint32(runtime.NumCPU()),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return err
		}
	}
	return nil
}

// create fills o, also partly when it fails.
func (o *objects) create(spec *ebpf.CollectionSpec, opts Options, takeSockets func(int,
	*ebpf.MapSpec) *ebpf.Map) error {
	for _, name := range slices.Sorted(maps.Keys(spec.Maps)) { // Sorted, so that an error is the same each time.
		if name == steerMapSockets || o.field(name) == nil && !isSetting(name) {
			continue // Each group has its own sockets; the rest are the program's constants.
		}
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			return explain("create map "+name, err)
		}
		if field := o.field(name); field != nil {
			*field = m
		} else {
			o.settings[name] = m
		}
	}
	// No program refers to this map, so the collection would create a second one.
	delete(spec.Maps, steerMapOwner)
	for name, entries := range opts.Values {
		for i, value := range entries {
			if err := o.settings[name].Update(uint32(i), value, ebpf.UpdateExist); err != nil {
				return explain("write map "+name, err)
			}
		}
	}
	if err := writeExempt(o.exempt, opts.Exempt); err != nil {
		return err
	}
	for i := range opts.Groups {
		g, err := o.createGroup(spec, takeSockets(i, spec.Maps[steerMapSockets]))
		if err != nil {
			return err
		}
		o.groups = append(o.groups, g)
	}
	return nil
}

// createGroup loads the program of one group. taken is a sockarray to use instead of a new one, or nil.
func (o *objects) createGroup(spec *ebpf.CollectionSpec, taken *ebpf.Map) (groupObjects, error) {
	replacements := make(map[string]*ebpf.Map)
	for name, m := range o.shared() {
		if name != steerMapOwner {
			replacements[name] = m
		}
	}
	if taken != nil {
		defer taken.Close() // The collection duplicates the descriptor.
		replacements[steerMapSockets] = taken
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replacements})
	if err != nil {
		return groupObjects{}, explain("load the steering program", err)
	}
	defer coll.Close()
	g := groupObjects{sockets: coll.Maps[steerMapSockets], program: coll.Programs[steerProgSteer]}
	// Close closes everything that is not detached from the collection.
	coll.DetachMap(steerMapSockets)
	coll.DetachProgram(steerProgSteer)
	return g, nil
}

// attach makes a group's program choose for the SO_REUSEPORT group that the socket is in, or will join when it is
// bound.
func (o *objects) attach(group, fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, o.groups[group].program.FD())
	if err != nil {
		return explain(fmt.Sprintf("attach the steering program to listen address %d", group), err)
	}
	return nil
}

// add puts a shard's listener into the sockarray of a group. The socket must already listen.
func (o *objects) add(group, shard, fd int) error {
	if err := o.groups[group].sockets.Update(uint32(shard), uint64(fd), ebpf.UpdateNoExist); err != nil {
		return explain(fmt.Sprintf("listen address %d: put the listener of shard %d into map %s", group, shard,
			steerMapSockets), err)
	}
	return nil
}

// field returns the field for a map, or nil for the map of a setting and for names that it does not know.
func (o *objects) field(name string) **ebpf.Map {
	return map[string]**ebpf.Map{
		steerMapSlotsV2: &o.slots, steerMapOutcomesV2: &o.outcomes, steerMapOwner: &o.owner,
		steerMapSources:      &o.sources,
		steerMapSourceExempt: &o.exempt,
	}[name]
}

// shared returns the maps that all groups share, by name.
func (o *objects) shared() map[string]*ebpf.Map {
	all := maps.Clone(o.settings)
	for _, name := range []string{
		steerMapSlotsV2, steerMapOutcomesV2, steerMapOwner, steerMapSources, steerMapSourceExempt,
	} {
		all[name] = *o.field(name)
	}
	return all
}

// pinned returns all maps by the name of their pin.
func (o *objects) pinned() map[string]*ebpf.Map {
	all := o.shared()
	for i, g := range o.groups {
		all[socketsPin(i)] = g.sockets
	}
	return all
}

func socketsPin(group int) string { return fmt.Sprintf("%s_%d", steerMapSockets, group) }

func isSetting(name string) bool {
	_, err := SettingNamed(name)
	return err == nil
}

// close closes the descriptors. An attached program stays in use as long as its listeners. It is not detached here,
// because the listeners may be closed by now and their descriptor numbers reused.
func (o *objects) close() {
	for _, m := range o.pinned() {
		m.Close()
	}
	for _, g := range o.groups {
		g.program.Close()
	}
}
