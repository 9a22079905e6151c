package doctor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPrivileges(t *testing.T) {
	for name, c := range map[string]struct {
		running       *Running
		want          Status
		found, remedy string
	}{
		"none runs": {nil, OK, "no wsd runs here", ""},
		"has none":  {&Running{PID: 7, NoNewPrivs: true}, OK, "wsd (process 7) has no capability, and can gain none", ""},
		"keeps one": {&Running{PID: 7, NoNewPrivs: true, Capabilities: []string{"CAP_DAC_OVERRIDE"}, Kept: []string{"CAP_DAC_OVERRIDE to remove the pins in /x"}},
			Warn, "has only CAP_DAC_OVERRIDE to remove the pins in /x, and can gain none", "let wsd own the directories"},
		"could not": {&Running{PID: 7, Capabilities: []string{"CAP_BPF"}, Problem: "set the capabilities: no"},
			Warn, "has CAP_BPF, and may gain others: set the capabilities: no", "--cap-drop ALL"},
		"not dropped": {&Running{PID: 7, Capabilities: []string{"CAP_BPF"}}, Warn, "has CAP_BPF", "restart it"},
	} {
		in := inspector{Options{Running: c.running}}
		r := in.privileges()
		require.Equal(t, c.want, r.Status, name)
		require.Contains(t, r.Found, c.found, name)
		require.Contains(t, r.Remedy, c.remedy, name)
		require.Equal(t, c.remedy == "", r.Remedy == "", name)
	}
}
