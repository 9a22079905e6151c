package server

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/chromedp/cdproto/heapprofiler"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
)

// held is what the page holds.
type held struct{ heap, nodes, listeners float64 }

// held returns the least of several measurements: not all that is free is found by each collection of garbage.
func (p *page) held() (least held) {
	p.t.Helper()
	least = p.holds()
	for range 9 {
		p.do(chromedp.Evaluate("pass(5000)", nil, awaited))
		h := p.holds()
		least = held{min(least.heap, h.heap), min(least.nodes, h.nodes), min(least.listeners, h.listeners)}
	}
	return least
}

func (p *page) holds() (h held) {
	p.t.Helper()
	var metrics []*performance.Metric
	p.do(heapprofiler.CollectGarbage(), heapprofiler.CollectGarbage(), chromedp.ActionFunc(func(ctx context.Context) (err error) {
		metrics, err = performance.GetMetrics().Do(ctx)
		return err
	}))
	for _, m := range metrics {
		switch m.Name {
		case "JSHeapUsedSize":
			h.heap = m.Value
		case "Nodes":
			h.nodes = m.Value
		case "JSEventListeners":
			h.listeners = m.Value
		}
	}
	return h
}

const (
	openedSeconds = 30 // Of the page's time between two changes: less than a stream stays silent.
	openedSteps   = 3600 / openedSeconds
)

// The page is open for hours, at a clock that runs as fast as the page and wsd do, while clients, channels and topics come
// and go, and somebody looks at its parts in turn: what it holds at the end is what it held after an hour.
// WSD_PAGE_HOURS says how long, 2 or more.
func TestPageOpenForHours(t *testing.T) {
	text := os.Getenv("WSD_PAGE_HOURS")
	if text == "" {
		t.Skip("takes minutes: make test-page")
	}
	hours, err := strconv.Atoi(text)
	require.NoError(t, err)
	clock, err := os.ReadFile("testdata/clock.js")
	require.NoError(t, err)
	p := newPage(t, map[string]any{"shards": "4", "kafka.topics": []string{"re:.*"}}, performance.Enable(),
		chromedp.ActionFunc(func(ctx context.Context) error {
			_, err := cdpage.AddScriptToEvaluateOnNewDocument(string(clock)).Do(ctx)
			return err
		}))
	var clients []*client
	for range 20 {
		clients = append(clients, p.join("a"))
	}
	topics := kadm.NewClient(p.producer)
	step := 0
	var measured []held
	for hour := range hours {
		for range openedSteps {
			step++
			clients[0].conn.Close()
			clients = append(clients[1:], p.join("a", fmt.Sprintf("room-%d", step)))
			if step%10 != 0 { // Else the page ends its connection and makes another one.
				p.produce("a", "", fmt.Sprintf(`{"step":%d,"price":1.50,"list":[true,null,"text"]}`, step))
			}
			switch topic := fmt.Sprintf("topic-%d", hour); step % openedSteps {
			case 10:
				require.NoError(t, p.kafka.CreateTopic(topic, 3, nil))
			case 70:
				_, err := topics.DeleteTopic(t.Context(), topic)
				require.NoError(t, err)
			}
			p.look(step)
			p.do(chromedp.Evaluate(fmt.Sprintf("pass(%d)", openedSeconds*1000), nil, awaited))
		}
		p.open("overview")
		p.do(chromedp.Evaluate("pass(1000)", nil, awaited))
		measured = append(measured, p.held())
		t.Logf("after hour %d: %+v", hour+1, measured[hour])
	}
	var asked int
	p.evaluate("asked", &asked)
	require.GreaterOrEqual(t, asked, hours*3600, "it has asked for the health less than once a second")
	first, last := measured[0], measured[hours-1]
	require.Less(t, last.heap, first.heap*1.1)
	require.Less(t, last.nodes, first.nodes*1.1)
	require.Less(t, last.listeners, first.listeners*1.1)
	require.Empty(t, p.said())
}

// look does what somebody does who looks at the page: every few minutes at another part of it.
func (p *page) look(step int) {
	p.t.Helper()
	if step%5 != 0 { // Each part four times an hour.
		return
	}
	visit := step / 5
	parts := []string{"overview", "messages-part", "channels-part", "clients-part", "steering-part", "machine-part"}
	part := parts[visit%len(parts)]
	visit /= len(parts)
	p.open(part)
	p.do(chromedp.Evaluate("pass(1000)", nil, awaited)) // What it asks for has arrived.
	do := ""
	switch part {
	case "overview":
		do = `document.querySelector("#plots svg").dispatchEvent(new PointerEvent("pointermove", {clientX: 200}))`
	case "messages-part":
		do = `{
			const channel = document.getElementById("channel");
			channel.selectedIndex = ` + strconv.Itoa(visit%3) + `;
			channel.dispatchEvent(new Event("change"));
			for (const id of ["indent", "pause", "pause", "clear"]) document.getElementById(id).click();
			document.getElementById("route").elements.topic.value = "a";
			document.querySelector("#route button").click();
		}`
	case "clients-part": // One time the first client, the next time all of them.
		do = `{
			const form = document.getElementById("clients-query");
			if (form.elements.client.value) {
				form.elements.client.value = "";
				form.dispatchEvent(new Event("change"));
			} else document.querySelector("#clients button").click();
		}`
	case "steering-part":
		do = `{
			const weight = document.querySelector("#steering-shards input[type=number]");
			weight.dispatchEvent(new Event("change"));
			document.querySelector("#confirm button[value=no]").click();
			document.querySelector("#drain-form button").click();
			document.querySelector("#confirm button[value=no]").click();
		}`
	case "channels-part":
		do = `document.getElementById("channels-query").dispatchEvent(new Event("change"))`
	case "machine-part":
		do = `document.getElementById("doctor-again").click()`
	}
	p.evaluate(do, nil)
}
