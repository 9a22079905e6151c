package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// The controllers that wsd asks about.
const (
	controllerCPU     = "cpu"
	controllerCPUTime = "cpuacct" // Version 1 only. Version 2 counts CPU time in every group.
	controllerMemory  = "memory"
)

// Tree is where the cgroup trees are mounted. It does not change, except for which groups this process is in.
type Tree struct {
	root     string // Directory that replaces / in every path.
	mounts   []mount
	recorded bool // If the group of this process does not exist below a mount, the top of the mount stands for it.
}

// mount is one mounted cgroup tree, or a part of one.
type mount struct {
	point       string   // Directory where it is mounted.
	part        string   // Group that is at the top of what is mounted.
	controllers []string // Of version 1.
	unified     bool     // Whether it is version 2.
}

// Mounted returns the trees that /proc/self/mountinfo lists. root replaces / in every path that is read, for tests;
// empty means /.
func Mounted(root string) (*Tree, error) {
	t := &Tree{root: root}
	text, err := t.read("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(kind) < 3 {
			continue
		}
		switch kind[0] {
		case "cgroup":
			t.mounts = append(t.mounts, mount{point: f[4], part: f[3], controllers: strings.Split(kind[2], ",")})
		case "cgroup2":
			t.mounts = append(t.mounts, mount{point: f[4], part: f[3], unified: true})
		}
	}
	return t, nil
}

// At returns the trees below a directory that is like /sys/fs/cgroup, for example a recorded one: version 2 if it
// contains cgroup.controllers, cpu.max or memory.max, else a directory of version 1 for each controller. If the group
// of this process does not exist there, the top of the tree is used instead.
func At(dir string) (*Tree, error) {
	t := &Tree{recorded: true}
	for _, file := range []string{"cgroup.controllers", "cpu.max", "memory.max"} {
		switch _, err := os.Stat(filepath.Join(dir, file)); {
		case err == nil:
			t.mounts = []mount{{point: dir, part: "/", unified: true}}
			return t, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if controllers := strings.Split(e.Name(), ","); slices.ContainsFunc(controllers, known) {
			t.mounts = append(t.mounts, mount{point: filepath.Join(dir, e.Name()), part: "/", controllers: controllers})
		}
	}
	if len(t.mounts) == 0 {
		return nil, fmt.Errorf("%s is not a cgroup tree: it has neither cgroup.controllers nor a directory cpu or "+
			"memory", dir)
	}
	return t, nil
}

func known(controller string) bool {
	return controller == controllerCPU || controller == controllerCPUTime || controller == controllerMemory
}

// hierarchy is the tree of one controller, and where this process is in it.
type hierarchy struct {
	mount   string // Directory where the tree is mounted.
	group   string // Group of this process, as a path below mount.
	unified bool   // Whether it is version 2.
}

// hierarchy returns the tree of a controller: the tree of version 1 if it is mounted, else the unified one. ok is false
// if there is none.
func (t *Tree) hierarchy(controller string) (h hierarchy, ok bool, err error) {
	groups, err := t.groups()
	if err != nil {
		return hierarchy{}, false, err
	}
	var unified hierarchy
	var haveUnified bool
	for _, m := range t.mounts {
		group, member := groups[controller]
		if m.unified {
			if group, member = groups[""]; member {
				unified, haveUnified = hierarchy{m.point, t.below(m, group), true}, true
			}
			continue
		}
		if member && slices.Contains(m.controllers, controller) {
			return hierarchy{m.point, t.below(m, group), false}, true, nil
		}
	}
	return unified, haveUnified, nil
}

// groups returns the group of this process for each controller. The key "" is the unified tree.
func (t *Tree) groups() (map[string]string, error) {
	text, err := t.read("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	groups := map[string]string{}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(f[1], ",") {
			groups[controller] = f[2]
		}
	}
	return groups, nil
}

// below returns the path of a group relative to the top of a mount.
func (t *Tree) below(m mount, group string) string {
	if m.part != "/" {
		rest, ok := strings.CutPrefix(group, m.part)
		if !ok || rest != "" && rest[0] != '/' {
			return "/" // Another part is mounted; its top is this process's group.
		}
		group = path.Join("/", rest)
	}
	if t.recorded {
		if _, err := os.Stat(path.Join(m.point, group)); err != nil {
			return "/"
		}
	}
	return group
}

// each calls fn with the directory of this process's group and of every group above it, and the text of a file there.
func (t *Tree) each(h hierarchy, file string, fn func(dir, text string) error) error {
	for group := path.Clean(h.group); ; group = path.Dir(group) {
		dir := path.Join(h.mount, group)
		text, err := t.read(path.Join(dir, file))
		switch {
		case errors.Is(err, fs.ErrNotExist): // The root group lacks the file.
		case err != nil:
			return err
		default:
			if err := fn(dir, text); err != nil {
				return fmt.Errorf("read %s of group %s: %w", file, group, err)
			}
		}
		if group == "/" || group == "." {
			return nil
		}
	}
}

// read returns the text of a file without the white space around it.
func (t *Tree) read(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(t.root, name))
	return strings.TrimSpace(string(b)), err
}
