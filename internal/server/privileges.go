package server

import (
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"wsd/internal/admin"
	"wsd/internal/privilege"
	"wsd/internal/steering"
)

// DropPrivileges drops every privilege of the process that the server does not need again: it keeps a capability only
// if something that it does later fails without it. The caller must call it once, between New and Run, and only if the
// process has no other use for its privileges.
func (s *Server) DropPrivileges() {
	state := privilege.Drop(s.needs())
	s.privileges.Store(&state)
	s.log.Info("dropped privileges", "kept", state.Effective.Names(), "bounding_set", state.Bounding.Names(),
		"no_new_privs", state.NoNewPrivs)
	for _, k := range state.Kept {
		s.log.Info("kept a capability", "capability", k.Capability, "for", k.For)
	}
	if state.Problem != "" {
		s.log.Warn("could not drop all privileges", "error", state.Problem)
	}
}

// needs returns everything that the server does after its start and that may take a capability. What it does once, such
// as opening ports below 1024, loading the program and reading keys, is done by then. A file that is read again later
// belongs here.
func (s *Server) needs() (list []privilege.Need) {
	if s.steering.Status().Mode != steering.Hash {
		list = append(list, privilege.Need{
			For: "read and change steering settings", Try: s.tryMaps,
			// Linux before 5.19 asks for it where kernel.unprivileged_bpf_disabled is set.
			Capabilities: []int{unix.CAP_BPF, unix.CAP_SYS_ADMIN},
		})
	}
	if path := s.steering.Status().PinPath; path != "" {
		list = append(list, removal("remove the pins in "+path, filepath.Dir(path), path))
	}
	if s.control != nil {
		list = append(list, removal("remove the control socket "+s.control.Path(), filepath.Dir(s.control.Path())))
	}
	// These are read again when they change.
	for _, file := range slices.Concat(s.cfg.Auth.Files(), s.cfg.Admin.Files(), s.cfg.Client.TLS.Files()) {
		list = append(list, reading(file))
	}
	for _, file := range s.cfg.Kafka.Files() { // They are read again at each login.
		list = append(list, reading(file))
	}
	return list
}

// tryMaps reads every map and writes one as it is.
func (s *Server) tryMaps() error {
	if _, err := s.SteerState(); err != nil {
		return err
	}
	return s.steering.Refuse(false)
}

// removal is the need to remove what is in directories. Root may do so in those of others only by a capability.
func removal(what string, dirs ...string) privilege.Need {
	return privilege.Need{For: what, Capabilities: []int{unix.CAP_DAC_OVERRIDE}, Try: func() error {
		for _, dir := range dirs {
			if err := privilege.MayChange(dir); err != nil {
				return err
			}
		}
		return nil
	}}
}

// reading is the need to read a file again. Root may read those of others only by a capability.
func reading(file string) privilege.Need {
	return privilege.Need{
		For: "read " + file + " again", Capabilities: []int{unix.CAP_DAC_READ_SEARCH},
		Try: func() error {
			fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				return &os.PathError{Op: "open", Path: file, Err: err}
			}
			return unix.Close(fd)
		},
	}
}

// describePrivileges returns what the process may do.
func (s *Server) describePrivileges() admin.Privileges {
	state := s.privileges.Load()
	if state == nil { // Not dropped.
		now, err := privilege.Read()
		if err != nil {
			now.Problem = err.Error()
		}
		state = &now
	}
	p := admin.Privileges{Capabilities: state.Effective.Names(), BoundingSet: state.Bounding.Names(),
		NoNewPrivs: state.NoNewPrivs, Kept: make([]string, 0, len(state.Kept)), Problem: state.Problem}
	for _, k := range state.Kept {
		p.Kept = append(p.Kept, k.Capability+" to "+k.For)
	}
	return p
}
