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
	aside string   // Where they are built; empty once published.
	claim *os.File // The directory itself, locked for as long as the process lives.

	// While they are built:
	section *os.File // <PinDir>, locked: one server at a time changes what is in there.
	stale   *os.File // The directory of an owner that is dead, locked; nil if there is none.
}

// preparePins pins the maps in a directory aside. publish or discard must follow,
// also when it fails: then pins is nil and both do nothing. note tells of a bpffs
// that had to be mounted.
func preparePins(pinDir string, port, shards int, o *objects) (p *pins, note string, err error) {
	if note, err = ensureBPFFS(pinDir); err != nil {
		return nil, "", err
	}
	if _, err = makeDirs(pinDir, pinDirMode); err != nil {
		return nil, "", err
	}
	section, err := lockDir(pinDir, lockWait)
	if err != nil {
		return nil, "", err
	}
	name := strconv.Itoa(port)
	p = &pins{dir: filepath.Join(pinDir, name), aside: filepath.Join(pinDir, name+"_new"), section: section}
	if err := p.build(shards, o); err != nil {
		p.discard()
		return nil, "", err
	}
	return p, note, nil
}

func (p *pins) build(shards int, o *objects) (err error) {
	p.stale, err = lockDir(p.dir, 0)
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("pin in %s: its pins are in use by %s", p.dir, ownerOf(p.dir))
	default:
		return err
	}
	// Whoever holds the section is alone in here: one that is there already was
	// left by a process that died while it built.
	if err := os.RemoveAll(p.aside); err != nil {
		return fmt.Errorf("remove the remains in %s: %w", p.aside, err)
	}
	if _, err := makeDirs(p.aside, pinDirMode); err != nil {
		return err
	}
	if p.claim, err = lockDir(p.aside, 0); err != nil {
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
	}
	return nil
}

// publish puts the pins where they belong. If it fails, nothing is left of them.
func (p *pins) publish() error {
	if p == nil {
		return nil
	}
	// A directory cannot be renamed over one that holds something.
	if p.stale != nil {
		if err := os.RemoveAll(p.dir); err != nil {
			p.discard()
			return fmt.Errorf("remove the pins of a dead owner: %w", err)
		}
	}
	if err := os.Rename(p.aside, p.dir); err != nil {
		p.discard()
		return fmt.Errorf("publish the pins: %w", err)
	}
	p.aside = ""
	p.leave()
	return nil
}

// discard removes what was built.
func (p *pins) discard() {
	if p == nil {
		return
	}
	_ = os.RemoveAll(p.aside)
	if p.claim != nil {
		p.claim.Close()
	}
	p.leave()
}

// leave lets others change <PinDir> again.
func (p *pins) leave() {
	if p.stale != nil {
		p.stale.Close()
	}
	p.section.Close()
	p.stale, p.section = nil, nil
}

// remove takes published pins away and gives up the claim.
func (p *pins) remove() error {
	defer p.claim.Close()
	section, err := lockDir(filepath.Dir(p.dir), lockWait)
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

// lockDir opens a directory and locks it, waiting at most that long; with 0 it
// tries once. Closing the file unlocks it, and so does the death of the process.
func lockDir(dir string, wait time.Duration) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	for end := time.Now().Add(wait); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || !time.Now().Before(end) {
			f.Close()
			return nil, fmt.Errorf("lock directory %s: %w", dir, err)
		}
	}
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
