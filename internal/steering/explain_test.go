package steering

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestExplain(t *testing.T) {
	const bpf, sysAdmin = uint64(1) << unix.CAP_BPF, uint64(1) << unix.CAP_SYS_ADMIN
	refused := &ebpf.VerifierError{Cause: unix.EACCES, Log: []string{
		"0: R1=ctx() R10=fp0", "; count->runs++;", "R0 invalid mem access 'map_value_or_null'",
		"verification time 12 usec", "stack depth 8", "processed 5 insns (limit 1000000)", ""}}
	strict := &ebpf.VerifierError{Cause: unix.EACCES, Log: []string{"R4 pointer arithmetic prohibited for !root", "processed 5 insns"}}
	for _, c := range []struct {
		name  string
		err   error
		facts facts
		want  []string
		not   string
	}{
		{"no capability", unix.EPERM, facts{release: "6.1.0"}, []string{"CAP_BPF is missing", "setcap cap_bpf+ep", "--cap-add BPF"}, "seccomp"},
		{"no capability, wrapped", fmt.Errorf("map create: %w (MEMLOCK may be too low)", unix.EPERM), facts{release: "6.1.0"}, []string{"CAP_BPF is missing"}, "MEMLOCK"},
		{"other capability", unix.EPERM, facts{release: "6.1.0", capabilities: ^(bpf | sysAdmin)}, []string{"CAP_BPF is missing"}, ""},
		{"user namespace", unix.EPERM, facts{release: "6.1.0", capabilities: bpf, userNS: true}, []string{"initial user namespace"}, "missing"},
		{"seccomp", unix.EPERM, facts{release: "6.1.0", capabilities: bpf}, []string{"seccomp", "lockdown"}, "missing"},
		{"seccomp, old capability", unix.EPERM, facts{release: "6.1.0", capabilities: sysAdmin}, []string{"seccomp"}, "missing"},
		{"no descriptor", fmt.Errorf("creating map: map create: %w", unix.EMFILE), facts{release: "6.1.0", capabilities: bpf, files: 20}, []string{"nofile) is 20", "at least 1024"}, "creating map"},
		{"no bpf", unix.ENOSYS, facts{release: "6.1.0", capabilities: bpf}, []string{"bpf(2) is not available", "seccomp", "6.1.0"}, ""},
		{"old kernel", unix.EINVAL, facts{release: "5.13.19-generic", capabilities: bpf}, []string{"kernel 5.13.19-generic is too old", "5.14"}, ""},
		{"older kernel", unix.EINVAL, facts{release: "4.19.0", capabilities: bpf}, []string{"too old"}, ""},
		{"old kernel, verifier", refused, facts{release: "5.10.0", capabilities: bpf}, []string{"too old"}, "invalid mem"},
		{"least kernel", unix.EINVAL, facts{release: "5.14.0", capabilities: bpf}, []string{"invalid argument", "5.14.0"}, "too old"},
		{"new kernel", unix.EINVAL, facts{release: "6.0-rc1", capabilities: bpf}, []string{"invalid argument"}, "too old"},
		{"strange release", unix.EINVAL, facts{release: "custom", capabilities: bpf}, []string{"invalid argument", "custom"}, "too old"},
		{"verifier", refused, facts{release: "6.1.0", capabilities: bpf}, []string{"verifier of kernel 6.1.0", "R0 invalid mem access 'map_value_or_null'"}, "processed"},
		{"verifier, CAP_BPF alone", strict, facts{release: "5.15.0", capabilities: bpf}, []string{"for !root; the verifier is less strict with CAP_PERFMON"}, ""},
		{"verifier, CAP_PERFMON", strict, facts{release: "5.15.0", capabilities: bpf | 1<<unix.CAP_PERFMON}, []string{"!root"}, "CAP_PERFMON"},
		{"verifier, CAP_SYS_ADMIN", strict, facts{release: "5.15.0", capabilities: sysAdmin}, []string{"!root"}, "CAP_PERFMON"},
		{"verifier, only figures", &ebpf.VerifierError{Cause: unix.EACCES, Log: []string{"processed 5 insns"}}, facts{release: "6.1.0", capabilities: bpf}, []string{"no reason given"}, ""},
		{"verifier, no log", &ebpf.VerifierError{Cause: unix.E2BIG}, facts{release: "6.1.0", capabilities: bpf}, []string{"argument list too long", "6.1.0"}, ""},
		{"several lines", errors.Join(unix.EINVAL, unix.EBUSY), facts{release: "6.1.0", capabilities: bpf}, []string{"invalid argument device or resource busy"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := explainOn("create map slots", c.err, c.facts)
			require.ErrorIs(t, err, c.err, "the cause stays within reach")
			text := err.Error()
			require.Contains(t, text, "create map slots: ")
			require.NotContains(t, text, "\n")
			require.Equal(t, strings.Contains(text, "the verifier of kernel"), errors.Is(err, ErrVerifier))
			for _, want := range c.want {
				require.Contains(t, text, want)
			}
			if c.not != "" {
				require.NotContains(t, text, c.not)
			}
		})
	}
}

func TestHostFacts(t *testing.T) {
	var uts unix.Utsname
	require.NoError(t, unix.Uname(&uts))
	f := hostFacts()
	require.Equal(t, unix.ByteSliceToString(uts.Release[:]), f.release)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	require.NoError(t, unix.Capget(&header, &data[0]))
	require.Equal(t, uint64(data[1].Effective)<<32|uint64(data[0].Effective), f.capabilities)
}
