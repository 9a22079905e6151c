package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	schema "github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/stretchr/testify/require"
)

// Every dashboard can be drawn: the picture is well-formed, has each panel's title, and is asked for each query.
func TestPictures(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if strings.Contains(r.FormValue("query"), "$") {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"status":"error","error":"a variable is left"}`)
			return
		}
		_, _ = io.WriteString(w, `{"status":"success","data":{"result":[{"metric":{"topic":"a<b","shard":"1"},
			"values":[[1e9,"NaN"],[1e9,"3"],[1e9,"1e12"]]},{"metric":{},"values":[]}]}}`)
	}))
	defer server.Close()
	files, err := filepath.Glob("../compose/grafana/dashboards/*.json")
	require.NoError(t, err)
	require.Len(t, files, 6)
	dir := t.TempDir()
	require.NoError(t, run(append([]string{"-prometheus", server.URL, "-out", dir}, files...), io.Discard))
	require.Greater(t, asked, 100)
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(dir, strings.Replace(filepath.Base(name), ".json", ".svg", 1)))
		require.NoError(t, err)
		for d := xml.NewDecoder(strings.NewReader(string(text))); err == nil; {
			_, err = d.Token()
		}
		require.ErrorIs(t, err, io.EOF, name)
		_, err = os.Stat("../../docs/pictures/" + strings.Replace(filepath.Base(name), ".json", ".svg", 1))
		require.NoError(t, err, "the documents show it")
	}
	require.ErrorContains(t, run([]string{"-minutes", "0", "x"}, io.Discard), "at least 1")
	require.ErrorContains(t, run(nil, io.Discard), "no dashboard")
}

func TestFormat(t *testing.T) {
	require.Equal(t, 2.5, roundUp(2.1))
	require.Equal(t, 0.01, roundUp(0.0099))
	require.Equal(t, "2.5 ms", format(0.0025, "s"))
	require.Equal(t, "1.5 MB", format(1.5e6, "bytes"))
	require.Equal(t, "12 k", format(12e3, "short"))
	require.Equal(t, "0", format(0, "s"))
}

// Grafana's schema knows every panel, query and field of the dashboards, and none that it requires is missing.
func TestSchema(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	files, err := filepath.Glob("../compose/grafana/dashboards/*.json")
	require.NoError(t, err)
	require.Len(t, files, 6)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, check(text), name)
	}
	text, err := os.ReadFile(files[0])
	require.NoError(t, err)
	for old, wrong := range map[string]string{
		`"timeseries"`:        `"timeserie"`,
		`"showLegend"`:        `"showLegends"`,
		`"expr"`:              `"expression"`,
		`"calcs": []`:         `"calc": []`,
		`"schemaVersion": 39`: `"schemaVersion": "39"`,
	} {
		require.True(t, bytes.Contains(text, []byte(old)), old)
		require.Error(t, check([]byte(strings.Replace(string(text), old, wrong, 1))), wrong)
	}
}

// check says what Grafana's schema has against a dashboard.
func check(text []byte) error {
	var strict, d schema.Dashboard //nolint:staticcheck // The second schema is for Grafana 12 and later alone.
	var faults cog.BuildErrors     // The schema returns an empty list where there is no fault.
	if err := strict.UnmarshalJSONStrict(text); !errors.As(err, &faults) || len(faults) > 0 {
		return err
	}
	if err := json.Unmarshal(text, &d); err != nil { // The strict one leaves panels empty.
		return err
	}
	for _, p := range d.Panels {
		if p.Panel == nil { // A row.
			continue
		}
		if _, known := cog.ConfigForPanelcfgVariant(p.Panel.Type); !known {
			return fmt.Errorf("panels of type %q are unknown", p.Panel.Type)
		}
	}
	return d.Validate()
}
