package steering

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// objects are what one server has in the kernel.
type objects struct {
	slots, drain, outcomes, owner *ebpf.Map

	groups []groupObjects
}

// groupObjects serve one listen address. A socket can be in one sockarray only,
// and a program names its sockarray, so each address has its own of both.
type groupObjects struct {
	sockets *ebpf.Map
	program *ebpf.Program
	fds     []int
}

// load creates the maps and programs and puts every listener into its map.
// Nothing changes for connections before attach.
func load(shards int, groups [][]int) (*objects, error) {
	spec, err := loadSteer()
	if err != nil {
		return nil, fmt.Errorf("BUG: read the embedded eBPF object: %w", err)
	}
	if err := tailor(spec, shards); err != nil {
		return nil, fmt.Errorf("BUG: prepare the embedded eBPF object: %w", err)
	}
	o := &objects{}
	if err := o.create(spec, groups); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// tailor fits the object to the number of shards and takes away what tests run.
func tailor(spec *ebpf.CollectionSpec, shards int) error {
	delete(spec.Programs, steerProgChooseTest)
	// The program looks drain up for every shard there is, and no operator can set
	// a shard that there is not.
	spec.Maps[steerMapDrain].MaxEntries = uint32(shards)
	spec.Maps[steerMapSockets].MaxEntries = uint32(shards)
	return spec.Variables[steerVarShardCount].Set(uint32(shards))
}

func (o *objects) create(spec *ebpf.CollectionSpec, groups [][]int) error {
	for name, m := range o.shared() {
		created, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			return explain("create map "+name, err)
		}
		*m = created
	}
	// No program uses it, so a collection would only create it once more.
	delete(spec.Maps, steerMapOwner)
	for i, fds := range groups {
		g, err := o.createGroup(spec, fds)
		if err != nil {
			return fmt.Errorf("listen address %d: %w", i, err)
		}
		o.groups = append(o.groups, g)
	}
	return nil
}

func (o *objects) createGroup(spec *ebpf.CollectionSpec, fds []int) (groupObjects, error) {
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		steerMapSlots: o.slots, steerMapDrain: o.drain, steerMapOutcomes: o.outcomes,
	}})
	if err != nil {
		return groupObjects{}, explain("load the steering program", err)
	}
	defer coll.Close()
	g := groupObjects{sockets: coll.Maps[steerMapSockets], program: coll.Programs[steerProgSteer], fds: fds}
	for shard, fd := range fds {
		if err := g.sockets.Update(uint32(shard), uint64(fd), ebpf.UpdateNoExist); err != nil {
			return groupObjects{}, explain(fmt.Sprintf("put the listener of shard %d into map %s", shard, steerMapSockets), err)
		}
	}
	// What is not detached goes with the collection.
	coll.DetachMap(steerMapSockets)
	coll.DetachProgram(steerProgSteer)
	return g, nil
}

// attach makes the programs choose, for every group or for none.
func (o *objects) attach() error {
	for i, g := range o.groups {
		err := unix.SetsockoptInt(g.fds[0], unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, g.program.FD())
		if err != nil {
			for _, attached := range o.groups[:i] {
				_ = unix.SetsockoptInt(attached.fds[0], unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
			}
			return explain(fmt.Sprintf("attach the steering program to listen address %d", i), err)
		}
	}
	return nil
}

// shared are the maps that all groups use, by name.
func (o *objects) shared() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{
		steerMapSlots: &o.slots, steerMapDrain: &o.drain, steerMapOutcomes: &o.outcomes, steerMapOwner: &o.owner,
	}
}

// pinned are all maps by the name of their pin.
func (o *objects) pinned() map[string]*ebpf.Map {
	maps := make(map[string]*ebpf.Map)
	for name, m := range o.shared() {
		maps[name] = *m
	}
	for i, g := range o.groups {
		maps[fmt.Sprintf("%s_%d", steerMapSockets, i)] = g.sockets
	}
	return maps
}

// close gives up the descriptors. An attached program goes on as long as its
// listeners: theirs may be closed by now and their numbers used for something
// else, so nothing is detached here.
func (o *objects) close() {
	for _, m := range o.pinned() {
		m.Close()
	}
	for _, g := range o.groups {
		g.program.Close()
	}
}
