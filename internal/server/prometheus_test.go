package server

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const (
	rulesPath      = "../../deploy/prometheus/wsd.rules.yml"
	dashboardsPath = "../../deploy/compose/grafana/dashboards/*.json"
	// window is what the ranges of rules and dashboards are made for the test, so that alerts fire and clear in seconds.
	window = "8s"
)

// prometheus is a Prometheus that scrapes the admin port of a rig.
type prometheus struct {
	t   testing.TB
	url string
}

// startPrometheus starts Debian's Prometheus with the rules, whose times are shortened.
func startPrometheus(t testing.TB, admin string, args ...string) *prometheus {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	require.NoError(t, err, "make setup installs it")
	dir := t.TempDir()
	rules, err := os.ReadFile(rulesPath)
	require.NoError(t, err)
	text := regexp.MustCompile(`\[\d+m\]`).ReplaceAllString(string(rules), "["+window+"]")
	text = regexp.MustCompile(`for: \d+[mh]`).ReplaceAllString(text, "for: 1s")
	config := fmt.Sprintf("global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\nrule_files: [rules.yml]\n"+
		"scrape_configs: [{job_name: wsd, static_configs: [{targets: [%q]}]}]\n", admin)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := ln.Addr().String()
	require.NoError(t, ln.Close())
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	c := exec.Command(program, append([]string{"--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path",
		filepath.Join(dir, "data"), "--web.listen-address", address}, args...)...)
	c.Stdout, c.Stderr = log, log
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait()
		log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s", text[max(0, len(text)-2000):])
		}
	})
	p := &prometheus{t: t, url: "http://" + address}
	p.eventually("Prometheus scrapes wsd", func() bool { n, err := p.series(`up{job="wsd"} == 1`); return err == nil && n == 1 })
	return p
}

func (p *prometheus) eventually(what string, cond func() bool) {
	p.t.Helper()
	require.Eventually(p.t, cond, 2*waitMax, 100*time.Millisecond, what)
}

// ask decodes the data of an answer of the API.
func (p *prometheus) ask(path string, data any) error {
	transport := &http.Transport{DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+path, nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return nil
}

// series returns how many series an expression has now.
func (p *prometheus) series(expr string) (int, error) {
	var data struct{ Result []any }
	err := p.ask("/api/v1/query?query="+url.QueryEscape(expr), &data)
	return len(data.Result), err
}

// value returns the value of an expression with one series.
func (p *prometheus) value(expr string) (v float64) {
	p.t.Helper()
	var data struct {
		Result []struct{ Value [2]any }
	}
	require.NoError(p.t, p.ask("/api/v1/query?query="+url.QueryEscape(expr), &data))
	require.Len(p.t, data.Result, 1, expr)
	_, err := fmt.Sscan(data.Result[0].Value[1].(string), &v)
	require.NoError(p.t, err)
	return v
}

// firing returns the names of the alerts that fire, sorted, each once.
func (p *prometheus) firing() []string {
	p.t.Helper()
	var data struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	require.NoError(p.t, p.ask("/api/v1/alerts", &data))
	names := []string{}
	for _, a := range data.Alerts {
		if a.State == "firing" {
			names = append(names, a.Labels["alertname"])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (p *prometheus) fires(alert string) bool {
	p.t.Helper()
	return slices.Contains(p.firing(), alert)
}

// goesWrong waits until all of the alerts fire at the same time because of what trouble does, and until they have cleared
// after its end.
func (p *prometheus) goesWrong(trouble func() (end func()), alerts ...string) {
	p.t.Helper()
	for _, alert := range alerts {
		require.False(p.t, p.fires(alert), alert)
	}
	began := time.Now()
	end := trouble()
	p.fire(alerts...)
	fired, others := time.Since(began), p.firing()
	end()
	p.clear(alerts...)
	p.t.Logf("%v fired after %v, with %v, and cleared", alerts, fired.Round(100*time.Millisecond), others)
}

// fire waits until all of the alerts fire at the same time.
func (p *prometheus) fire(alerts ...string) {
	p.t.Helper()
	p.eventually(fmt.Sprint(alerts, " fire"), func() bool {
		firing := p.firing()
		return !slices.ContainsFunc(alerts, func(alert string) bool { return !slices.Contains(firing, alert) })
	})
}

// clear waits until none of the alerts fires.
func (p *prometheus) clear(alerts ...string) {
	p.t.Helper()
	p.eventually(fmt.Sprint(alerts, " clear"), func() bool {
		firing := p.firing()
		return !slices.ContainsFunc(alerts, func(alert string) bool { return slices.Contains(firing, alert) })
	})
}

// only waits until these alerts fire, and no other one.
func (p *prometheus) only(alerts ...string) {
	p.t.Helper()
	deadline := time.Now().Add(2 * waitMax)
	for firing := p.firing(); !slices.Equal(firing, alerts); firing = p.firing() {
		require.True(p.t, time.Now().Before(deadline), "%v fire, and not %v", firing, alerts)
		time.Sleep(100 * time.Millisecond)
	}
}

// fired waits until Prometheus has recorded of each of the alerts that it fired, and until none does.
func (p *prometheus) fired(alerts ...string) {
	p.t.Helper()
	for _, alert := range alerts {
		p.eventually(alert+" has fired", func() bool {
			n, err := p.series(`last_over_time(ALERTS{alertstate="firing",alertname="` + alert + `"}[5m])`)
			require.NoError(p.t, err)
			return n > 0
		})
	}
	p.clear(alerts...)
	p.t.Logf("%v fired and cleared", alerts)
}

// rule is an alert.
type rule struct {
	Alert, Expr, For string
	Labels           map[string]string
	Annotations      map[string]string
}

func mustRules(t testing.TB) []rule {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	text, err := os.ReadFile(rulesPath)
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &file))
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// mustExpressions returns the expressions of all dashboards, as Grafana would ask them.
func mustExpressions(t testing.TB) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(dashboardsPath)
	require.NoError(t, err)
	all := map[string][]string{}
	for _, name := range files {
		var d struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &d), name)
		for _, panel := range d.Panels {
			require.NotEmpty(t, panel.Targets, "%s: %s", name, panel.Title)
			for _, target := range panel.Targets {
				expr := strings.NewReplacer("$instance", ".*", "$__rate_interval", window).Replace(target.Expr)
				all[filepath.Base(name)] = append(all[filepath.Base(name)], expr)
			}
		}
	}
	return all
}

// operands returns what an alert's expression compares and combines: without comparisons, and, or and unless, each must
// have a series, or the alert could never fire.
func operands(expr string) (parts []string) {
	depth, quoted, begin := 0, false, 0
	cut := func(end, next int) {
		if part := strings.TrimSpace(expr[begin:end]); part != "" {
			parts = append(parts, part)
		}
		begin = next
	}
	for i := range len(expr) {
		switch c := expr[i]; {
		case c == '"':
			quoted = !quoted
		case quoted, i < begin:
		case strings.ContainsRune("({[", rune(c)):
			depth++
		case strings.ContainsRune(")}]", rune(c)):
			depth--
		case depth > 0:
		case strings.ContainsRune("<>=!", rune(c)):
			end := i + 1
			if expr[end] == '=' {
				end++
			}
			cut(i, end)
		default:
			for _, word := range []string{" and ", " or ", " unless "} {
				if strings.HasPrefix(expr[i:], word) {
					cut(i, i+len(word))
				}
			}
		}
	}
	cut(len(expr), len(expr))
	return slices.DeleteFunc(parts, func(part string) bool { return !strings.Contains(part, "wsd") })
}

func TestOperands(t *testing.T) {
	for expr, want := range map[string][]string{
		`up{job="wsd"} == 0`:                {`up{job="wsd"}`},
		"wsd_ready == 0 and wsd_since == 0": {"wsd_ready", "wsd_since"},
		`sum by (a) (rate(wsd_x{b=~"c or d",e!="f"}[5m])) > 1 + 0.01 * sum(wsd_y) or wsd_z < 100`: {
			`sum by (a) (rate(wsd_x{b=~"c or d",e!="f"}[5m]))`, "1 + 0.01 * sum(wsd_y)", "wsd_z",
		},
	} {
		require.Equal(t, want, operands(expr))
	}
}
