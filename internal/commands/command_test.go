package commands

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func full() *Command {
	return &Command{
		ID: NewID(), Origin: "one", Do: Subscribe, User: "alice", Client: "c", Channel: "news", Keep: []string{"a"},
		Code: 4000, Reason: "r", Data: []byte{0, 255}, Since: &Position{Offset: 1 << 60, Epoch: "e"}, ExpireAt: 4e9,
	}
}

func TestCommandComesBack(t *testing.T) {
	c := full()
	value, err := c.Append([]byte("x"))
	require.NoError(t, err)
	got, err := Parse(value[1:])
	require.NoError(t, err)
	require.Equal(t, c, got)
}

func TestCheck(t *testing.T) {
	require.NoError(t, full().Check())
	for want, change := range map[string]func(*Command){
		"user has 256 bytes, at most 255 are allowed": func(c *Command) { c.User = strings.Repeat("x", 256) },
		"user is not valid UTF-8":                     func(c *Command) { c.User = "\xff" },
		"client has 65 bytes":                         func(c *Command) { c.Client = strings.Repeat("x", 65) },
		"channel has 256 bytes":                       func(c *Command) { c.Channel = strings.Repeat("x", 256) },
		"reason has 124 bytes":                        func(c *Command) { c.Reason = strings.Repeat("x", 124) },
		`"reboot" is not a command`:                   func(c *Command) { c.Do = "reboot" },
		"name a user or a client":                     func(c *Command) { c.User, c.Client = "", "" },
		"name a channel":                              func(c *Command) { c.Channel = "" },
		"code is 2999, must be from 3000 to 4999":     func(c *Command) { c.Code = 2999 },
		"code is 5000":                                func(c *Command) { c.Code = 5000 },
		"whitelist has 1001 clients":                  func(c *Command) { c.Keep = make([]string, 1001) },
		"whitelist has a client of more than 64":      func(c *Command) { c.Keep = []string{strings.Repeat("x", 65)} },
		"data has 65537 bytes":                        func(c *Command) { c.Data = make([]byte, DataMax+1) },
		"epoch has 65 bytes":                          func(c *Command) { c.Since.Epoch = strings.Repeat("x", 65) },
		"expire_at is 4000000000000":                  func(c *Command) { c.ExpireAt = 4e12 },
		"expire_at is -1":                             func(c *Command) { c.ExpireAt = -1 },
	} {
		c := full()
		change(c)
		require.ErrorContains(t, c.Check(), want)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"": "not a command", "{": "not a command", "[]": "not a command", "null": "version", `{"v":2}`: "version",
		"{\"v\":1,\"do\":\"\xff\"}": "UTF-8", `{"v":1,"do":"disconnect","user":"x"}`: "without an id",
		`{"v":1,"id":"abc","do":"disconnect","user":"x"}`: "32 hexadecimal digits",
		strings.Repeat(" ", recordMax+1):                  "at most",
		`{"v":1,"user":` + strings.Repeat("[", 1e5):       "not a command",
	} {
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want, "%.80s", text)
	}
}

// What comes from the topic may be anything; what is accepted is within the limits, and is written as it was read.
func FuzzParse(f *testing.F) {
	value, err := full().Append(nil)
	require.NoError(f, err)
	f.Add(value)
	f.Add([]byte(`{"v":1,"id":"00000000000000000000000000000001","do":"disconnect","user":"x"}`))
	f.Add([]byte(`{"v":1,"ID":"00000000000000000000000000000001","do":"refresh","client":"x","expired":true,"since":{}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		c, err := Parse(value)
		if err != nil {
			return
		}
		require.NoError(t, c.Check())
		again, err := c.Append(nil)
		require.NoError(t, err)
		got, err := Parse(again)
		require.NoError(t, err)
		if len(c.Data) == 0 {
			c.Data, got.Data = nil, nil
		}
		if len(c.Keep) == 0 {
			c.Keep, got.Keep = nil, nil
		}
		require.Equal(t, c, got)
	})
}

func TestWindow(t *testing.T) {
	var w window
	first := NewID()
	require.True(t, w.add(first))
	require.False(t, w.add(first))
	for range windowMax - 1 {
		require.True(t, w.add(NewID()))
	}
	require.False(t, w.add(first), "the oldest one is still remembered")
	require.True(t, w.add(NewID()))
	require.True(t, w.add(first), "the oldest one is forgotten")
	require.Len(t, w.ids, windowMax)
	require.Len(t, w.ring, windowMax)
}
