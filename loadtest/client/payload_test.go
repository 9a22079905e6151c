package client

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const testTime = 1790000000123456789

func mustFormat(tb testing.TB, run uint32, size int) *Format {
	tb.Helper()
	f, err := NewFormat(run, size)
	require.NoError(tb, err)
	return f
}

func TestRecordRoundTrip(t *testing.T) {
	for _, size := range []int{SizeMin, SizeMin + 1, 128, 70_000} {
		f := mustFormat(t, 0xabc, size)
		b := f.Append(nil, 12, testTime)
		require.Len(t, b, size)
		seq, ts, v := f.parse(b)
		require.Equal(t, recordOK, v)
		require.Equal(t, uint64(12), seq)
		require.Equal(t, int64(testTime), ts)

		var value struct {
			Seq, Run, Pad string
			TS            int64
		}
		require.NoError(t, json.Unmarshal(b, &value), "a JSON client gets it as it is")
		require.Equal(t, "000000000012", value.Seq)
		require.Equal(t, "00000abc", value.Run)
		require.Equal(t, int64(testTime), value.TS)
	}
}

func TestRecordVerdicts(t *testing.T) {
	f := mustFormat(t, 1, 100)
	good := string(f.Append(nil, 7, testTime))
	for _, tc := range []struct {
		name, value string
		want        verdict
	}{
		{"good", good, recordOK},
		{"goes on", good + `,"offset":3}`, recordOK},
		{"other run", string(mustFormat(t, 2, 100).Append(nil, 7, testTime)), recordForeign},
		{"other run and size", string(mustFormat(t, 2, SizeMin).Append(nil, 7, testTime)), recordForeign},
		{"cut", good[:99], recordCorrupt},
		{"empty", "", recordCorrupt},
		{"other padding", strings.Replace(good, "...", ".x.", 1), recordCorrupt},
		{"number 0", strings.Replace(good, "000000000007", "000000000000", 1), recordCorrupt},
		{"no number", strings.Replace(good, "000000000007", "00000000000x", 1), recordCorrupt},
		{"no time", strings.Replace(good, "1790", "179.", 1), recordCorrupt},
		{"other keys", strings.Replace(good, `"ts"`, `"st"`, 1), recordCorrupt},
		{"same run, other size", string(mustFormat(t, 1, 101).Append(nil, 7, testTime)), recordCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, v := f.parse([]byte(tc.value))
			require.Equal(t, tc.want, v)
		})
	}
}

func TestRecordTooSmall(t *testing.T) {
	_, err := NewFormat(1, SizeMin-1)
	require.ErrorContains(t, err, "must be at least")
}

// Text is as long as other padding, valid JSON, and nothing that compresses to nothing.
func TestTextFormat(t *testing.T) {
	f, err := NewTextFormat(0x0123abcd, 1024)
	require.NoError(t, err)
	b := f.Append(nil, 7, 1_790_000_000_000_000_000)
	require.Len(t, b, 1024)
	require.True(t, json.Valid(b), string(b))
	seq, _, v := f.parse(b)
	require.Equal(t, recordOK, v)
	require.EqualValues(t, 7, seq)
	var small bytes.Buffer
	w, err := flate.NewWriter(&small, 3)
	require.NoError(t, err)
	_, _ = w.Write(b)
	require.NoError(t, w.Close())
	require.Greater(t, small.Len(), 1024/5)
	require.Less(t, small.Len(), 1024*3/4)
	_, err = NewTextFormat(1, SizeMin-1)
	require.Error(t, err)
}
