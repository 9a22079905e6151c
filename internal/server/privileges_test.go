package server

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/control"
	"wsd/internal/privilege"
	"wsd/internal/testutil"
)

// Whatever the server does after its start it does without any capability, on this kernel too.
func TestNeedsNoCapability(t *testing.T) {
	testutil.RequireBPF(t)
	pins := filepath.Join(testutil.BPFFS(t), "wsd")
	r := newRig(t, map[string]any{"steering.mode": "require", "steering.pin_dir": pins})
	r.ready()
	needs := r.server.needs()
	require.Len(t, needs, 3)
	for _, need := range needs {
		var err error
		require.NoError(t, privilege.With(0, func() { err = need.Try() }))
		require.NoError(t, err, need.For)
	}
	require.Contains(t, needs[1].For, "remove the pins in "+pins)
	require.Contains(t, needs[2].For, "remove the control socket ")

	// The things themselves.
	without := func(f func() error) {
		t.Helper()
		var err error
		require.NoError(t, privilege.With(0, func() { err = f() }))
		require.NoError(t, err)
	}
	shard := 1
	without(func() error { return r.server.Steer(control.SteerChange{Setting: "weight", Shard: &shard, Value: "7"}) })
	without(func() error { return r.server.Steer(control.SteerChange{Setting: "stall_bound", Value: "250ms"}) })
	without(func() error { return r.server.steering.SetAdmission(3) })
	without(func() error { return r.server.Drain(control.DrainChange{OverSeconds: 60}) })
	without(func() error { return r.server.Drain(control.DrainChange{Stop: true}) })
	require.NoError(t, r.stop()) // So that nothing reconciles meanwhile.
}

// Pins and the control socket are removed without a capability.
func TestRemovalNeedsNoCapability(t *testing.T) {
	testutil.RequireBPF(t)
	pins := filepath.Join(testutil.BPFFS(t), "wsd")
	s, err := newServer(configure(t, map[string]any{"steering.mode": "require", "steering.pin_dir": pins}), Build{},
		slog.New(slog.DiscardHandler), hooks{})
	require.NoError(t, err)
	dir, socket := s.steering.Status().PinPath, s.control.Path()
	require.DirExists(t, dir)
	require.NoError(t, privilege.With(0, func() {
		s.steering.Reconcile()
		s.steering.Watch()
		s.discard()
	}))
	require.NoDirExists(t, dir)
	require.NoFileExists(t, socket)
}

// A directory of another user's is changed by a capability alone, and that one is kept.
func TestNeedOfForeignDirectory(t *testing.T) {
	testutil.RequireBPF(t)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	require.NoError(t, os.Chown(dir, 65534, 65534))
	need := removal("remove it", dir)
	var err error
	require.NoError(t, privilege.With(0, func() { err = need.Try() }))
	require.ErrorContains(t, err, "change "+dir+": permission denied")
	require.NoError(t, privilege.With(privilege.Of(need.Capabilities...), func() { err = need.Try() }))
	require.NoError(t, err)
}

// A file of another user's that is read again, such as a password, is read by a capability alone, and that one is kept.
func TestNeedOfForeignFile(t *testing.T) {
	testutil.RequireBPF(t)
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	require.NoError(t, os.Chown(file, 65534, 65534))
	cfg := configure(t, map[string]any{
		"kafka.sasl.mechanism": "plain", "kafka.sasl.username": "u", "kafka.sasl.password_file": file,
	})
	require.Equal(t, []string{file}, cfg.Kafka.Files())
	s, err := newServer(cfg, Build{}, slog.New(slog.DiscardHandler), hooks{})
	require.NoError(t, err)
	needs := s.needs()
	s.discard()
	need := needs[len(needs)-1]
	require.Equal(t, reading(file).For, need.For)
	require.NoError(t, privilege.With(0, func() { err = need.Try() }))
	require.ErrorContains(t, err, "permission denied")
	require.NoError(t, privilege.With(privilege.Of(need.Capabilities...), func() { err = need.Try() }))
	require.NoError(t, err)
}

// AWS's credentials are read again when they expire.
func TestNeedOfAWSFiles(t *testing.T) {
	home := t.TempDir()
	for name, value := range map[string]string{
		"HOME": home, "AWS_SHARED_CREDENTIALS_FILE": "", "AWS_CONFIG_FILE": "/c", "AWS_WEB_IDENTITY_TOKEN_FILE": "/t",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "",
	} {
		t.Setenv(name, value)
	}
	cfg := configure(t, map[string]any{"kafka.sasl.mechanism": "aws-msk-iam", "kafka.tls.enabled": true})
	require.Equal(t, []string{"/t", filepath.Join(home, ".aws", "credentials"), "/c"}, cfg.Kafka.Files())
}
