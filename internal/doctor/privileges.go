package doctor

import (
	"fmt"
	"strings"
)

// privileges says which privileges the running wsd has kept. What this process
// may do, and so a wsd that it would start, is another check.
func (in *inspector) privileges() Result {
	r := Result{Check: "privileges", Wanted: "a running wsd has no capability, and can gain none"}
	run := in.Running
	if run == nil {
		r.Found, r.Wanted = "no wsd runs here with this configuration; once started, it drops what it does not need "+
			"again", ""
		return r
	}
	has := "no capability"
	switch {
	case len(run.Kept) > 0:
		has = "only " + strings.Join(run.Kept, ", ")
	case len(run.Capabilities) > 0:
		has = strings.Join(run.Capabilities, ", ")
	}
	gains := "can gain none"
	if !run.NoNewPrivs {
		gains = "may gain others"
	}
	r.Found = fmt.Sprintf("wsd (process %d) has %s, and %s", run.PID, has, gains)
	switch {
	case run.Problem != "":
		r.Status, r.Found = Warn, r.Found+": "+run.Problem
		r.Remedy = "start wsd with fewer privileges: docker run --cap-drop ALL --cap-add BPF --security-opt " +
			"no-new-privileges; systemd: deploy/wsd.service"
	case len(run.Kept) > 0:
		r.Status = Warn
		r.Remedy = "let wsd own the directories named above, or run it on a kernel that does not ask for the capability"
	case len(run.Capabilities) > 0 || !run.NoNewPrivs:
		r.Status = Warn
		r.Remedy = "restart it with wsd serve of this version, which drops them"
	}
	return r
}
