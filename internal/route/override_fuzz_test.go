package route

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
)

// FuzzOverrides gives a record headers that the input chooses, and expects the target that a plain reading of Overrides
// finds. A header is a byte that chooses the name, a length and the value. With raw, the input is the headers as they
// stand in a batch: then whatever is decided must be possible.
func FuzzOverrides(f *testing.F) {
	id := string(routing.NewClientIDs([16]byte{}).Of(1).Append(nil))
	f.Add([]byte("\x00\x20"+id), false)
	f.Add([]byte("\x01\x03ann\x02\x05a, b,\x03\x04true"), false)
	f.Add([]byte("\x02\x05a,b,a\x02\x01c\x03\x01x"), false)
	f.Add([]byte("\x02\x07a,b,c,d\x04\x02\xff\xff"), false)
	f.Add([]byte("\x03\x05false\x05\x00\x03\x00"), false)
	f.Add([]byte(AppendHeaders(nil, [2]string{"wsd-user", "ann"}, [2]string{"wsd-client", id})[:20]), true)
	f.Add([]byte{2, 0x10, 'w', 's', 'd', '-', 'u', 's', 'e', 'r', 1}, true) // A user that is null.
	names := []string{"wsd-client", "wsd-user", "wsd-channels", "wsd-broadcast", "other", ""}
	o := allHeaders
	o.ChannelsMax = 3
	table, err := New([]Rule{{Channel: "rule"}}, &o)
	require.NoError(f, err)
	topic := table.Topic("t")
	var used Placement
	f.Fuzz(func(t *testing.T, program []byte, raw bool) {
		if raw {
			topic.Place(&used, 7, &Record{Headers: program})
			possible(t, &used)
			return
		}
		var pairs [][2]string
		for len(program) >= 2 && len(pairs) < 200 {
			n := min(int(program[1]), len(program)-2)
			pairs = append(pairs, [2]string{names[int(program[0])%len(names)], string(program[2 : 2+n])})
			program = program[2+n:]
		}
		topic.Place(&used, 7, &Record{Headers: AppendHeaders(nil, pairs...)})
		possible(t, &used)
		to, target := plainOverride(pairs, o.ChannelsMax)
		require.Equal(t, to, used.To, "%q", pairs)
		got := ""
		switch used.To {
		case ToConnection:
			got = string(used.Client.Append(nil))
		case ToUser:
			got = string(used.User)
		case ToChannels:
			var list []string
			for _, name := range used.Channels {
				list = append(list, string(name))
			}
			got = strings.Join(list, ",")
		default:
		}
		require.Equal(t, target, got, "%q", pairs)
	})
}

// possible fails unless the placement's parts fit together.
func possible(t *testing.T, p *Placement) {
	t.Helper()
	require.Equal(t, p.To == ToChannels, len(p.Channels) > 0)
	require.Equal(t, p.To == ToNobody, p.Why != Placed)
	if p.To == ToUser {
		require.NotEmpty(t, p.User)
		require.LessOrEqual(t, len(p.User), ChannelBytesMax)
	}
	seen := map[string]bool{}
	for _, name := range p.Channels {
		require.True(t, utf8.Valid(name) && len(name) > 0 && len(name) <= ChannelBytesMax && !seen[string(name)], "%q", name)
		seen[string(name)] = true
	}
}

// plainOverride says where a record with these headers goes, and by what name.
func plainOverride(pairs [][2]string, channelsMax int) (to Target, target string) {
	last := map[string]string{}
	for _, p := range pairs {
		last[p[0]] = p[1]
	}
	good := func(s string) bool { return s != "" && len(s) <= ChannelBytesMax && utf8.ValidString(s) }
	if id, ok := last["wsd-client"]; ok {
		if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
			return ToNobody, ""
		}
		return ToConnection, id
	}
	if user, ok := last["wsd-user"]; ok {
		if !good(user) {
			return ToNobody, ""
		}
		return ToUser, user
	}
	var list []string
	for _, p := range pairs {
		if p[0] != "wsd-channels" {
			continue
		}
		for _, name := range strings.Split(p[1], ",") {
			if name = strings.TrimSpace(name); !good(name) {
				return ToNobody, ""
			}
			if joined := "," + strings.Join(list, ",") + ","; !strings.Contains(joined, ","+name+",") {
				list = append(list, name)
			}
			if len(list) > channelsMax {
				return ToNobody, ""
			}
		}
	}
	if len(list) > 0 {
		return ToChannels, strings.Join(list, ",")
	}
	switch all, ok := last["wsd-broadcast"]; {
	case !ok, all == "false", all == "0":
		return ToChannels, "rule"
	case all == "true", all == "1":
		return ToEverybody, ""
	}
	return ToNobody, ""
}
