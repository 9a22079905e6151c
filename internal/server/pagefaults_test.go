package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"wsd/internal/control"
	"wsd/internal/testutil"
)

// page is the admin page of a rig in a browser.
type page struct {
	*rig
	ctx   context.Context //nolint:containedctx // Chromedp keeps the browser in it.
	said  func() []string
	token string // The file.
}

const pageToken = "a-token-of-some-length-0123456789"

// newPage opens the page of a wsd that has a token for its admin port, after the actions.
func newPage(t *testing.T, flags map[string]any, actions ...chromedp.Action) *page {
	t.Helper()
	ctx, said := browser(t)
	p := &page{ctx: ctx, said: said, token: filepath.Join(t.TempDir(), "token")}
	require.NoError(t, os.WriteFile(p.token, []byte(pageToken), 0o600))
	all := map[string]any{"admin.token_file": p.token}
	for name, value := range flags {
		all[name] = value
	}
	p.rig = newRig(t, all)
	p.ready()
	p.do(actions...)
	p.do(network.Enable(), network.SetExtraHTTPHeaders(network.Headers{"Authorization": "Bearer " + pageToken}),
		chromedp.EmulateViewport(1300, 900), chromedp.Navigate("http://"+p.server.AdminAddress()+"/"))
	p.contains("status", "ok")
	return p
}

func (p *page) do(actions ...chromedp.Action) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Run(p.ctx, actions...))
}

// until waits until an expression of JavaScript is true.
func (p *page) until(expression string) {
	p.t.Helper()
	var is bool
	err := chromedp.Run(p.ctx, chromedp.Poll(expression, &is, chromedp.WithPollingTimeout(time.Minute)))
	if err != nil {
		var text string
		_ = chromedp.Run(p.ctx, chromedp.Evaluate(`document.body.innerText`, &text))
		require.NoError(p.t, err, "%s\n%s", expression, text)
	}
}

func quoted(text string) string {
	b, _ := json.Marshal(text) // Never fails.
	return string(b)
}

func (p *page) contains(id, text string) {
	p.t.Helper()
	p.until(`document.getElementById(` + quoted(id) + `).textContent.includes(` + quoted(text) + `)`)
}

func (p *page) evaluate(expression string, value any) {
	p.t.Helper()
	p.do(chromedp.Evaluate(expression, value))
}

func (p *page) open(part string) { p.t.Helper(); p.do(click(`#tabs a[href="#` + part + `"]`)) }

// asked waits until the page has got two more answers for a path.
func (p *page) asked(path string) {
	p.t.Helper()
	var n int
	count := `performance.getEntriesByType("resource").filter((e) => e.name.includes(` + quoted(path) + `)).length`
	p.evaluate(count, &n)
	p.until(fmt.Sprintf("%s >= %d", count, n+2))
}

// shot keeps a picture where WSD_SCREENSHOTS says.
func (p *page) shot(name string) {
	p.t.Helper()
	if dir := os.Getenv("WSD_SCREENSHOTS"); dir != "" {
		var png []byte
		p.do(chromedp.FullScreenshot(&png, 100))
		require.NoError(p.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
	}
}

// answers replaces what wsd answers to a path by what a function of JavaScript makes of it, until the page is loaded anew.
func (p *page) answers(path, change string) {
	p.t.Helper()
	p.evaluate(`{
		const before = window.fetch;
		window.fetch = async (target, options) => {
			const response = await before(target, options);
			if (String(target).split("?")[0] !== `+quoted(path)+`) return response;
			return new Response(JSON.stringify((`+change+`)(await response.json())), {status: 200});
		};
	}`, nil)
}

// Names and values that try to be markup are text, spaces in names are seen, and a value of a megabyte is cut.
func TestPageHostileText(t *testing.T) {
	const channel, user = `<img src=x onerror=alert(1)>  "two spaces" `, `<script>alert(1)</script>`
	p := newPage(t, tokenFlags(map[string]any{"auth.rules": []string{"*=user"}}))
	p.dial("/ws?channel=" + url.QueryEscape(channel) + "&token=" + tokenFor(t, "sub", user))
	p.open("channels-part")
	p.contains("top-channels", channel)
	var wide string
	p.evaluate(`getComputedStyle(document.querySelector("#top-channels td")).whiteSpace`, &wide)
	require.Equal(t, "pre-wrap", wide)
	p.open("clients-part")
	p.contains("clients", user)
	p.do(click(`#clients tr:first-child button`))
	p.contains("client-channels", channel)
	p.shot("hostile")

	// The console asks for a token, says why wsd refuses one, and takes another.
	p.open("messages-part")
	p.until(`!document.getElementById("token-field").hidden`)
	p.contains("stream-state", "enter a token")
	p.until(`document.getElementById("stream-problem").hidden`) // It is no problem, and nothing is tried in vain.
	enterToken := func(token string) {
		p.evaluate(`{
			const field = document.getElementById("token");
			field.value = `+quoted(token)+`;
			field.dispatchEvent(new Event("change"));
		}`, nil)
	}
	enterToken(tokenFor(t, "sub", user, "exp", time.Now().Add(-time.Hour).Unix()))
	p.contains("stream-problem-text", "expired")
	enterToken("not a token")
	p.contains("stream-problem-text", "invalid token")
	p.shot("token-refused")
	enterToken(tokenFor(t, "sub", user))
	p.contains("stream-state", "connected")
	p.evaluate(`{
		const channel = document.getElementById("channel");
		channel.value = "a";
		channel.dispatchEvent(new Event("change"));
	}`, nil)
	p.contains("stream-state", "connected")
	p.produce("a", "", `"<b>`+strings.Repeat(`\"x`, 300_000)+`"`)
	p.contains("messages", "more characters")
	p.contains("messages", `"<b>`)
	require.Empty(t, p.said())
}

// What is being typed is neither sent nor replaced, what went wrong stays to be read, and what was not confirmed is undone.
func TestPageForms(t *testing.T) {
	testutil.RequireBPF(t)
	p := newPage(t, map[string]any{"steering.mode": "require", "steering.pin_dir": testutil.BPFFS(t)})
	p.dial("/ws?channel=a")
	p.open("clients-part")
	p.contains("clients-state", "2 clients")
	p.evaluate(`{
		const { client, user } = document.getElementById("clients-query").elements;
		client.value = "ab"; // No id yet.
		user.value = "an";
		user.focus();
	}`, nil)
	p.asked("page/clients")
	p.contains("clients-state", "2 clients")
	var focused string
	p.evaluate(`document.activeElement.name`, &focused)
	require.Equal(t, "user", focused)

	p.open("steering-part")
	p.contains("steering-state", "least-loaded")
	p.evaluate(`{
		const { admission } = document.getElementById("steering-form").elements;
		admission.value = "2";
		admission.dispatchEvent(new Event("input", {bubbles: true}));
	}`, nil)
	p.asked("page/steering")
	var typed string
	p.evaluate(`document.getElementById("steering-form").elements.admission.value`, &typed)
	require.Equal(t, "2", typed)

	p.until(`document.querySelector("#steering-shards input[type=number]").value === "100"`)
	p.evaluate(`{
		const weight = document.querySelector("#steering-shards input[type=number]");
		weight.focus();
		weight.value = 300;
		weight.dispatchEvent(new Event("change"));
	}`, nil)
	p.until(`document.getElementById("confirm").open`)
	p.do(click(`#confirm button[value=no]`))
	p.until(`document.querySelector("#steering-shards input[type=number]").value === "100"`)

	p.evaluate(`{
		const form = document.getElementById("drain-form");
		form.noValidate = true;
		form.elements.over.value = "-5";
	}`, nil)
	p.do(click(`#drain-form button`))
	p.until(`document.getElementById("confirm").open`)
	p.do(click(`#confirm button[value=yes]`))
	p.contains("drain-state", "must be from 0 to")
	p.asked("page/drain")
	p.contains("drain-state", "must be from 0 to")
	p.contains("drain-state", "serving") // After a while it is the state again.
	require.Equal(t, "off", p.server.DrainState().Status)
}

// A wsd that is replaced under the page, a token that changes, and answers that lack a part.
func TestPageGoesOn(t *testing.T) {
	p := newPage(t, map[string]any{"shards": "64", "file": "routes: [{topic: a, channel: '{key}', on_error: stop}]\n"})
	p.dial("/ws?channel=k")
	p.until(`document.querySelectorAll("#shards tr").length === 64`)
	p.until(`document.querySelector("#plots path").getAttribute("d").split("L").length > 2`)

	p.answers("health", `(h) => ({...h, short: true, shards: [], kafka: {...h.kafka, topics: []}})`)
	p.asked("health")
	var rows int
	p.evaluate(`document.querySelectorAll("#shards tr").length + document.querySelectorAll("#topics tr").length`, &rows)
	require.Equal(t, 65, rows)
	p.answers("page/clients", `(a) => ({...a, total: 99, at_least: true, missing: [3], busy: [4, 5]})`)
	p.open("clients-part")
	p.contains("clients-state", "at least 99 clients, no answer from shards 3, too many ask shards 4, 5 at once")
	p.do(chromedp.Reload())
	p.contains("status", "ok")

	// By the keyboard the value at a time.
	p.open("overview")
	p.until(`document.querySelector("#plots path").getAttribute("d").split("L").length > 2`)
	p.evaluate(`{
		const plot = document.querySelector("#plots svg");
		plot.focus();
		plot.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft"}));
	}`, nil)
	p.until(`/ at .*\d:\d\d/.test(document.querySelector("#plots svg").getAttribute("aria-label"))`)

	// A subscription that ends because records were lost begins again.
	p.open("messages-part")
	p.evaluate(`{
		const channel = document.getElementById("channel");
		channel.append(new Option("k", "k"));
		channel.value = "k";
		channel.dispatchEvent(new Event("change"));
	}`, nil)
	p.contains("stream-state", "connected")
	p.produce("a", "k", `"one"`)
	p.contains("messages", "one")
	p.produce("a", "", `"nowhere"`)
	p.eventually("stopped", func() bool { return p.metric(`wsd_kafka_stopped{partition="0",topic="a"}`) == 1 })
	_, err := p.server.Skip(control.SkipRequest{Topic: "a"})
	require.NoError(t, err)
	p.contains("stream-state", "insufficient state")
	p.contains("stream-state", "connected")
	p.produce("a", "k", `"two"`)
	p.contains("messages", "two")

	address, port := p.server.AdminAddress(), p.server.Addresses()[0].String()
	p.open("overview")
	p.shot("shards-64")
	require.NoError(t, p.stop())
	p.contains("status", "no response")
	p.shot("away")
	p.said() // The browser notes what it could not load.
	p.start(configure(t, map[string]any{
		"kafka.brokers": p.kafka.ListenAddrs(), "admin.listen": address, "client.listen": []string{port}, "admin.token_file": p.token, "shards": "2",
	}))
	p.contains("status", "ok")
	p.until(`document.querySelectorAll("#shards tr").length === 2 && document.getElementById("health-problem").hidden`)
	p.until(`document.querySelector("#plots path").getAttribute("d").split("M").length === 3`) // With a gap.
	p.until(`!document.getElementById("delivery-rate").textContent.includes("-")`)
	p.open("messages-part")
	p.contains("stream-state", "connected")

	require.NoError(t, os.WriteFile(p.token, []byte("another-token-of-some-length-0123"), 0o600))
	p.server.access.Refresh()
	p.until(`!document.getElementById("token-problem").hidden`)
	p.shot("token-changed")
	p.open("clients-part")
	p.contains("clients-state", "the token of this port has changed")
	p.contains("status", "ok")
}
