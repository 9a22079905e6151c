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

// Modes of pins and their directories. Members of steering.pin_group may read and write them, other users may not.
const (
	pinDirMode = 0o750
	pinMode    = 0o640
)

// lockWait is how long to wait for another server that holds the lock of the pin directory. It makes only a handful of
// system calls meanwhile.
const lockWait = 2 * time.Second

// pins is the directory of one server's pins.
type pins struct {
	dir   string   // Directory of the pins once they are published: <PinDir>/<Port>.
	aside string   // Directory in which the pins are built before they are published.
	group int      // Gid that pins and directories get; -1: that of the process.
	claim *os.File // The directory of the built pins, locked until the process ends; nil before it is built.

	replaced string   // Owner of the pins that a dead process left in dir; empty: there were none.
	taken    int      // Number of sockarrays taken over from the dead process.
	stale    *os.File // The directory of the dead process, locked until publish or discard; nil: none.
}

// claimPins prepares the pins of a port: it makes sure that PinDir is on a bpffs and that no living process has pins
// for the port. The caller must then call publish, discard or remove. note describes the mount of a bpffs, if there was
// one, even if there is an error.
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

// enter locks PinDir until the returned file is closed, so that only one server at a time changes its content. Others
// wait meanwhile, so the lock must be short: no program is loaded while it is held.
func (p *pins) enter() (section *os.File, err error) {
	return dirlock.Lock(filepath.Dir(p.dir), lockWait)
}

// findStale locks the directory that a dead process left in dir, if there is one. It returns an error if the owner
// lives. It may be called again, because in between someone may have removed the directory, or another server may have
// published pins.
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
		return fmt.Errorf("pin in %s: the pins there are in use by %s", p.dir, ownerOf(p.dir))
	default:
		return err
	}
	return nil
}

// makePinDir creates PinDir and gives it to PinGroup. It also gives away a directory that an earlier start has created.
// It leaves a directory with another mode alone, because someone else has created it.
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

// takeSockets returns the sockarray that a dead process left for a group, or nil if there is none that fits the
// program. Usually it is empty, because the sockets are closed. But a process that hands its sockets on to another
// leaves them in the sockarray, and a socket cannot be in a second one.
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

// publish builds the pins in a directory aside and then renames that to dir. If it fails, it leaves nothing behind.
func (p *pins) publish(o *objects, shards int) error {
	defer p.discard()
	section, err := p.enter()
	if err != nil {
		return err
	}
	defer section.Close()
	// Another server may have published pins since claimPins.
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
	// Exchange the directories, so that dir always exists. A bpffs can do that since Linux 5.16; before, dir must be
	// removed first, because a directory cannot be renamed over one that is not empty.
	err := unix.Renameat2(unix.AT_FDCWD, p.aside, unix.AT_FDCWD, p.dir, unix.RENAME_EXCHANGE)
	if err == nil {
		if err := os.RemoveAll(p.aside); err != nil {
			return fmt.Errorf("remove the pins of a dead process: %w", err)
		}
		return nil
	}
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("remove the pins of a dead process: %w", err)
	}
	if err := os.Rename(p.aside, p.dir); err != nil {
		return fmt.Errorf("publish the pins: %w", err)
	}
	return nil
}

func (p *pins) build(o *objects, shards int) (err error) {
	// This process holds the lock of PinDir, so an existing directory was left by a process that died while it built
	// pins.
	if err := os.RemoveAll(p.aside); err != nil {
		return fmt.Errorf("remove unfinished pins in %s: %w", p.aside, err)
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

// giveToGroup changes the group of path, unless group is -1.
func giveToGroup(path string, group int) error {
	if group < 0 {
		return nil
	}
	if err := os.Chown(path, -1, group); err != nil {
		return fmt.Errorf("change the group of the pins to steering.pin_group (gid %d): %w: wsd must be a member of "+
			"that group or have CAP_CHOWN", group, errors.Unwrap(err))
	}
	return nil
}

// discard releases the lock on the directory that a dead process left.
func (p *pins) discard() {
	if p != nil && p.stale != nil {
		p.stale.Close()
		p.stale = nil
	}
}

// remove removes published pins and releases their lock. If the pins are not published, it is discard.
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
		return nil // Someone has removed PinDir.
	}
	if err != nil {
		return fmt.Errorf("remove the pins in %s: %w", p.dir, err)
	}
	defer section.Close()
	// Someone may have removed the pins, and another server may have published its own since.
	ours, err := sameDir(p.claim, p.dir)
	if err != nil || !ours {
		return err
	}
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("remove the pins: %w", err)
	}
	return nil
}

// sameDir reports whether path still is the open directory f.
func sameDir(f *os.File, path string) (bool, error) {
	open, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("look up the directory of the pins: %w", err)
	}
	current, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up the directory of the pins: %w", err)
	}
	return os.SameFile(open, current), nil
}

func writeOwner(m *ebpf.Map, shards int) error {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return fmt.Errorf("look up the network namespace: %w", err)
	}
	err := m.Update(uint32(0), &steerOwnerRecord{Pid: uint32(os.Getpid()), Shards: uint32(shards), Netns: st.Ino},
		ebpf.UpdateAny)
	if err != nil {
		return explain("write map "+steerMapOwner, err)
	}
	return nil
}

// ownerOf describes the owner of the pins in dir, for messages.
func ownerOf(dir string) string {
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, steerMapOwner), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return "another process (cannot read its owner map: " + oneLine(err) + ")"
	}
	defer m.Close()
	var o steerOwnerRecord
	if err := m.Lookup(uint32(0), &o); err != nil {
		return "another process (cannot read its owner map: " + oneLine(err) + ")"
	}
	return fmt.Sprintf("pid %d in network namespace %d", o.Pid, o.Netns)
}
