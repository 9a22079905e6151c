package steering

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"wsd/internal/dirlock"
)

// A group may be let in by chgrp; others see nothing.
const (
	pinDirMode = 0o750
	pinMode    = 0o640
)

// lockWait bounds how long another server may be busy with its pins: it makes a
// handful of system calls.
const lockWait = 2 * time.Second

// pins are the pins of one server, and its claim on them.
type pins struct {
	dir   string   // Where they are to be, or are.
	aside string   // Where they are built.
	group int      // Number of the group that they are given to; -1: none.
	claim *os.File // The directory itself, locked for as long as the process lives; nil before it is built.

	// What was found there.
	replaced string // Whose pins were there, though it lives no more; empty if none were.
	taken    int    // Sockarrays that were taken over from it.

	// Until they are published or discarded:
	stale *os.File // The directory of an owner that is dead, locked; nil if there is none.
}

// claimPins makes sure that the pins of a port may be built: that there is a bpffs,
// and no living owner. publish, discard or remove must follow. note tells of a bpffs
// that had to be mounted, also when there is an error.
func claimPins(o Options, port int) (p *pins, note string, err error) {
	if note, err = ensureBPFFS(o.PinDir); err != nil {
		return nil, "", err
	}
	if err := makePinDir(o); err != nil {
		return nil, note, err
	}
	name := strconv.Itoa(port)
	p = &pins{dir: filepath.Join(o.PinDir, name), aside: filepath.Join(o.PinDir, name+"_new"), group: o.PinGroup}
	section, err := p.enter()
	if err != nil {
		return nil, note, err
	}
	defer section.Close()
	if err := p.findStale(); err != nil {
		return nil, note, err
	}
	return p, note, nil
}

// enter locks <PinDir> until the file is closed: one server at a time changes what is
// in there. That must not last, as the others wait: no program is loaded meanwhile.
func (p *pins) enter() (section *os.File, err error) {
	return dirlock.Lock(filepath.Dir(p.dir), lockWait)
}

// findStale locks the directory of a dead owner, if there is one. A living owner is
// an error. It may be called again: somebody may have removed what it found, and
// another server may have pinned since.
func (p *pins) findStale() (err error) {
	if p.stale != nil {
		same, err := sameDir(p.stale, p.dir)
		if same || err != nil {
			return err
		}
		p.discard()
		p.replaced = ""
	}
	p.stale, err = dirlock.Lock(p.dir, 0)
	switch {
	case err == nil:
		p.replaced = ownerOf(p.dir)
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("pin in %s: its pins are in use by %s", p.dir, ownerOf(p.dir))
	default:
		return err
	}
	return nil
}

// makePinDir makes <PinDir>, and lets the group in, also when an earlier start has
// made it. A directory with another mode is somebody else's to care for.
func makePinDir(o Options) error {
	made, err := makeDirs(o.PinDir, pinDirMode)
	if err != nil {
		return err
	}
	given := made
	if info, err := os.Stat(o.PinDir); len(made) == 0 && err == nil && info.Mode().Perm() == pinDirMode {
		given = []string{o.PinDir}
	}
	for _, dir := range given {
		if err := giveToGroup(dir, o.PinGroup); err != nil {
			removeDirs(made)
			return err
		}
	}
	return nil
}

// takeSockets returns the sockarray that a dead owner has left for a group, if it is
// as the program wants it. Its sockets are closed, so it is empty; but a process
// that hands its sockets on leaves them in it, and they could be in no other.
func (p *pins) takeSockets(group int, spec *ebpf.MapSpec) *ebpf.Map {
	if p == nil || p.stale == nil {
		return nil
	}
	m, err := ebpf.LoadPinnedMap(filepath.Join(p.dir, socketsPin(group)), nil)
	if err != nil {
		return nil
	}
	if spec.Compatible(m) != nil {
		m.Close()
		return nil
	}
	p.taken++
	return m
}

// publish builds the pins aside and puts them where they belong. If it fails, nothing
// is left of them.
func (p *pins) publish(o *objects, shards int) error {
	defer p.discard()
	section, err := p.enter()
	if err != nil {
		return err
	}
	defer section.Close()
	// Another server may have been faster since claimPins.
	if err := p.findStale(); err != nil {
		return err
	}
	if err := p.replace(o, shards); err != nil {
		_ = os.RemoveAll(p.aside)
		if p.claim != nil {
			p.claim.Close()
		}
		return err
	}
	return nil
}

func (p *pins) replace(o *objects, shards int) error {
	if err := p.build(o, shards); err != nil {
		return err
	}
	if p.stale == nil {
		if err := os.Rename(p.aside, p.dir); err != nil {
			return fmt.Errorf("publish the pins: %w", err)
		}
		return nil
	}
	// At no moment is there nothing. Before Linux 5.16 a bpffs cannot exchange, nor can a
	// directory be renamed over one that holds something.
	err := unix.Renameat2(unix.AT_FDCWD, p.aside, unix.AT_FDCWD, p.dir, unix.RENAME_EXCHANGE)
	if err == nil {
		if err := os.RemoveAll(p.aside); err != nil {
			return fmt.Errorf("remove the pins of a dead owner: %w", err)
		}
		return nil
	}
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("remove the pins of a dead owner: %w", err)
	}
	if err := os.Rename(p.aside, p.dir); err != nil {
		return fmt.Errorf("publish the pins: %w", err)
	}
	return nil
}

func (p *pins) build(o *objects, shards int) (err error) {
	// Whoever has entered is alone in here: one that is there already was left by a
	// process that died while it built.
	if err := os.RemoveAll(p.aside); err != nil {
		return fmt.Errorf("remove the remains in %s: %w", p.aside, err)
	}
	if _, err := makeDirs(p.aside, pinDirMode); err != nil {
		return err
	}
	if err := giveToGroup(p.aside, p.group); err != nil {
		return err
	}
	if p.claim, err = dirlock.Lock(p.aside, 0); err != nil {
		return err
	}
	if err := writeOwner(o.owner, shards); err != nil {
		return err
	}
	for name, m := range o.pinned() {
		path := filepath.Join(p.aside, name)
		if err := m.Pin(path); err != nil {
			return explain("pin map "+name+" in "+p.dir, err)
		}
		if err := os.Chmod(path, pinMode); err != nil {
			return fmt.Errorf("set the mode of pin %s: %w", name, err)
		}
		if err := giveToGroup(path, p.group); err != nil {
			return err
		}
	}
	return nil
}

// giveToGroup is chgrp, for a group that was named.
func giveToGroup(path string, group int) error {
	if group < 0 {
		return nil
	}
	if err := os.Chown(path, -1, group); err != nil {
		return fmt.Errorf("give the pins to the group of steering.pin_group (%d): %w: wsd must be a member of it, or have CAP_CHOWN", group, errors.Unwrap(err))
	}
	return nil
}

// discard gives up the claim on the place of a dead owner's pins.
func (p *pins) discard() {
	if p != nil && p.stale != nil {
		p.stale.Close()
		p.stale = nil
	}
}

// remove takes published pins away and gives up the claim; unpublished ones it
// discards.
func (p *pins) remove() error {
	if p == nil {
		return nil
	}
	if p.claim == nil {
		p.discard()
		return nil
	}
	defer p.claim.Close()
	section, err := p.enter()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Somebody removed all of it.
	}
	if err != nil {
		return fmt.Errorf("remove the pins in %s: %w", p.dir, err)
	}
	defer section.Close()
	// Someone may have removed them, and another server may have pinned since.
	ours, err := sameDir(p.claim, p.dir)
	if err != nil || !ours {
		return err
	}
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("remove the pins: %w", err)
	}
	return nil
}

// sameDir tells whether path still names the open directory.
func sameDir(f *os.File, path string) (bool, error) {
	open, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("look at the claimed pins: %w", err)
	}
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the pins: %w", err)
	}
	return os.SameFile(open, there), nil
}

func writeOwner(m *ebpf.Map, shards int) error {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return fmt.Errorf("look at this network namespace: %w", err)
	}
	err := m.Update(uint32(0), &steerOwnerRecord{Pid: uint32(os.Getpid()), Shards: uint32(shards), Netns: st.Ino}, ebpf.UpdateAny)
	if err != nil {
		return explain("write map "+steerMapOwner, err)
	}
	return nil
}

// ownerOf describes whose pins these are, as far as this process may read it.
func ownerOf(dir string) string {
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, steerMapOwner), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return "another process (its owner map is not readable: " + oneLine(err) + ")"
	}
	defer m.Close()
	var o steerOwnerRecord
	if err := m.Lookup(uint32(0), &o); err != nil {
		return "another process (its owner map is not readable: " + oneLine(err) + ")"
	}
	return fmt.Sprintf("pid %d in network namespace %d", o.Pid, o.Netns)
}
