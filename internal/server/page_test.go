package server

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
)

// browser returns a context for a tab of a headless Chromium, and a function that returns what its console has said.
func browser(t *testing.T) (ctx context.Context, said func() []string) {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox)
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stopTab := chromedp.NewContext(allocator, chromedp.WithErrorf(func(format string, args ...any) {
		if !strings.HasPrefix(format, "unhandled node event") { // It does not know those of today's dialogs.
			t.Logf(format, args...)
		}
	}))
	t.Cleanup(stopTab)
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	t.Cleanup(cancel)
	lines := make(chan string, 100)
	chromedp.ListenTarget(ctx, func(event any) {
		line := ""
		switch e := event.(type) {
		case *cdruntime.EventExceptionThrown:
			line = e.ExceptionDetails.Error()
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning { // Others are advice.
				line = e.Entry.Text + " " + e.Entry.URL
			}
		}
		if line != "" && len(lines) < cap(lines) {
			lines <- line
		}
	})
	return ctx, func() (list []string) {
		for len(lines) > 0 {
			list = append(list, <-lines)
		}
		return list
	}
}

// The page in a real browser, with clients and records: each part shows what it should, in dark and light and on a
// phone, nothing of it breaks the Content-Security-Policy, and axe-core (from WSD_AXE, if that is set) finds nothing
// serious. WSD_SCREENSHOTS is a directory for pictures of it.
func TestPageInBrowser(t *testing.T) {
	ctx, said := browser(t)
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("a-token-of-some-length-0123456789"), 0o600))
	flags := map[string]any{"admin.token_file": token}
	steers := os.Geteuid() == 0
	if steers {
		flags["steering.mode"], flags["steering.pin_dir"] = "require", testutil.BPFFS(t)
	}
	r := newRig(t, flags)
	r.ready()
	for range 5 {
		r.join("a", "b")
	}
	r.dial("/ws?channel=b")
	r.produce("a", "key", `{"n":1}`, `{"n":2}`)
	address := "http://" + r.server.AdminAddress() + "/"

	do := func(actions ...chromedp.Action) {
		t.Helper()
		require.NoError(t, chromedp.Run(ctx, actions...))
	}
	contains := func(id, text string) {
		t.Helper()
		var found bool
		script, err := json.Marshal(text)
		require.NoError(t, err)
		do(chromedp.Poll(`document.getElementById("`+id+`").textContent.includes(`+string(script)+`)`, &found, chromedp.WithPollingTimeout(time.Minute)))
	}
	parts := []string{"overview", "messages-part", "channels-part", "clients-part", "steering-part", "machine-part"}
	open := func(part string) { do(click(`#tabs a[href="#` + part + `"]`)) }

	do(network.Enable(), network.SetExtraHTTPHeaders(network.Headers{
		"Authorization": "Bearer a-token-of-some-length-0123456789",
	}))
	do(chromedp.EmulateViewport(1300, 900), chromedp.Navigate(address))
	contains("status", "ok")
	contains("connections", "7") // One is the page's own.
	contains("plots", "Kafka lag")
	r.produce("a", "key", `{"n":0}`)
	var shown bool
	do(chromedp.Poll(`Array.from(document.querySelectorAll("#plots figure")).some((f) =>
		f.textContent.startsWith("Record to socket") && f.textContent.includes(" ms, max"))`, &shown,
		chromedp.WithPollingTimeout(time.Minute)))
	open("channels-part")
	contains("top-channels-state", "2 channels")
	contains("top-channels", "a")
	do(enter("channels-query", "prefix", "b"))
	contains("top-channels-state", "1 channel")
	open("clients-part")
	contains("clients-state", "7 clients")
	do(click(`#clients tr:first-child button`))
	contains("client-channels", "the client")
	require.Empty(t, said())
	do(enter("clients-query", "client", strings.Repeat("0", 32)))
	contains("clients-state", "not the id of a client of this process")
	said() // The browser notes that this was refused.
	do(enter("clients-query", "client", ""))
	open("machine-part")
	contains("doctor", "kernel")
	open("messages-part")
	contains("stream-state", "connected")
	r.produce("a", "key", `{"n":"seen"}`)
	contains("messages", "seen")
	do(enter("route", "topic", "a"), click(`#route button`))
	contains("route-result", "Decided by")

	confirm := func(answer string) {
		t.Helper()
		var opened bool
		do(chromedp.Poll(`document.getElementById("confirm").open`, &opened, chromedp.WithPollingTimeout(time.Minute)),
			click(`#confirm button[value="`+answer+`"]`))
	}
	open("steering-part")
	contains("drain-state", "serving")
	if steers {
		contains("steering-state", "least-loaded")
		do(enter("steering-form", "policy", "p2c"), enter("steering-form", "admission", "25"), click(`#steering-form button`))
		confirm("no")
		contains("steering-state", "least-loaded")
		do(enter("steering-form", "policy", "p2c"), enter("steering-form", "admission", "25"), chromedp.Sleep(1500*time.Millisecond))
		do(click(`#steering-form button`)) // What was entered is still there, although the page has asked anew.
		confirm("yes")
		contains("steering-state", "p2c")
		contains("steering-differs", "admission is 25, configured 0")
		do(click(`#steering-shards tr:nth-child(2) input[type=checkbox]`))
		confirm("yes")
		contains("steering-shards", "draining")
		do(chromedp.Evaluate(`{
			const weight = document.querySelector('#steering-shards tr:first-child input[type=number]');
			weight.value = 300;
			weight.dispatchEvent(new Event("change"));
		}`, nil))
		confirm("yes")
		contains("steering-differs", "weight of shard 0 is 300")
		state, err := r.server.SteerState()
		require.NoError(t, err)
		require.Equal(t, "p2c", state.Policy)
		require.True(t, state.Shards[1].Drain)
		require.EqualValues(t, 300, state.Shards[0].Weight)
	}
	do(enter("drain-form", "over", "3600"), click(`#drain-form button`))
	confirm("yes")
	contains("drain-state", "draining: ")
	do(click(`#drain-stop`))
	confirm("yes")
	contains("drain-state", "serving")

	axe := ""
	if path := os.Getenv("WSD_AXE"); path != "" {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		axe = string(text)
	}
	for _, scheme := range []string{"light", "dark"} {
		for width, size := range map[string][2]int64{"1300": {1300, 900}, "400": {400, 850}} {
			do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
				chromedp.EmulateViewport(size[0], size[1]))
			for _, part := range parts {
				open(part)
				var wide bool
				do(chromedp.Sleep(200*time.Millisecond), chromedp.Evaluate(`document.documentElement.scrollWidth > innerWidth`, &wide))
				require.False(t, wide, "%s is wider than %s", part, width)
				if dir := os.Getenv("WSD_SCREENSHOTS"); dir != "" {
					var png []byte
					do(chromedp.FullScreenshot(&png, 100))
					require.NoError(t, os.WriteFile(filepath.Join(dir, part+"-"+width+"-"+scheme+".png"), png, 0o600))
				}
				if axe == "" {
					continue
				}
				var serious []string
				do(chromedp.Evaluate(axe+`; axe.run().then((r) => r.violations.filter((v) => ["serious", "critical"].includes(v.impact)).map((v) =>
					v.id + ": " + v.nodes.map((n) => n.html).join(" ").slice(0, 300)))`, &serious, awaited))
				require.Empty(t, serious, "%s %s %s", part, width, scheme)
			}
		}
	}
	require.Empty(t, said())
}

func awaited(p *cdruntime.EvaluateParams) *cdruntime.EvaluateParams { return p.WithAwaitPromise(true) }

// click clicks as a script does: this chromedp does not know the events of today's dialogs.
func click(selector string) chromedp.Action {
	return chromedp.Evaluate(fmt.Sprintf(`document.querySelector(%q).click()`, selector), nil)
}

// enter changes a field of a form.
func enter(form, field, value string) chromedp.Action {
	return chromedp.Evaluate(fmt.Sprintf(`{
		const form = document.getElementById(%q);
		form.elements[%q].value = %q;
		form.dispatchEvent(new Event("change"));
	}`, form, field, value), nil)
}
