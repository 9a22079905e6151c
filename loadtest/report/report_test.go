package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"
)

func TestTextHasEveryField(t *testing.T) {
	var check func(typ reflect.Type)
	check = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			require.NotEmpty(t, f.Tag.Get("label"), "%s.%s", typ.Name(), f.Name)
			require.NotEmpty(t, f.Tag.Get("json"), "%s.%s", typ.Name(), f.Name)
			at := f.Type
			if at.Kind() == reflect.Pointer {
				at = at.Elem()
			}
			if at.Kind() == reflect.Struct {
				check(at)
			}
		}
	}
	check(reflect.TypeFor[Report]())
}

func TestText(t *testing.T) {
	r := Report{
		Run:     Run{Mode: "fanout", RampSeconds: 1.5},
		Clients: Clients{Held: 12000, Closes: map[string]int64{"3008 slow": 2, "1006 end": 1}},
		Server:  &Server{CPUMicrosDelivery: 2.345},
		Reasons: []string{"2 clients were disconnected", "1 records were lost"},
	}
	var b bytes.Buffer
	require.NoError(t, r.WriteText(&b))
	text := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		"Run mode fanout", "ramp took 1.50 s", "held 12,000", "disconnected: 1006 end 1 disconnected: 3008 slow 2",
		"CPU per delivery 2.35 µs", "not passed: 2 clients were disconnected 1 records were lost",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "server not measured")
	require.NotContains(t, text, "Shards")

	r = Report{Passed: true, Interrupted: true, ServerNote: "no pid"}
	b.Reset()
	require.NoError(t, r.WriteText(&b))
	require.Contains(t, b.String(), "server not measured  no pid")
	require.True(t, strings.HasSuffix(b.String(), "\ninterrupted: what was measured up to then\npassed\n"))
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, (&Report{Passed: true, Reasons: []string{}}).WriteJSON(&b))
	var got map[string]any
	require.NoError(t, json.Unmarshal(b.Bytes(), &got))
	require.Equal(t, true, got["passed"])
	require.Equal(t, []any{}, got["reasons"])
	require.Nil(t, got["server"])
	require.Contains(t, got["latency"], "p999_us")
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteErrors(t *testing.T) {
	r := &Report{}
	require.ErrorContains(t, r.WriteText(full{}), "disk full")
	require.ErrorContains(t, r.WriteJSON(full{}), "disk full")
}

func TestGroup(t *testing.T) {
	for in, want := range map[string]string{"0": "0", "1234": "1234", "12345": "12,345", "-123456": "-123,456", "1234567890": "1,234,567,890"} {
		require.Equal(t, want, group(in))
	}
}

func TestDistribution(t *testing.T) {
	require.Equal(t, Micros{}, Distribution(nil))
	h := hdrhistogram.New(1, 60_000_000, 3)
	require.Equal(t, Micros{}, Distribution(h))
	for i := range int64(1000) {
		require.NoError(t, h.RecordValue(i+1))
	}
	require.Equal(t, Micros{Count: 1000, P50: 500, P90: 900, P99: 990, P999: 999, Max: 1000}, Distribution(h))
}

func TestPer(t *testing.T) {
	require.Equal(t, 2.5, Per(5, 2))
	require.Zero(t, Per(5, 0))
}
