package route

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFeeds(t *testing.T) {
	user := Rule{Topic: "users", Channel: "user.{key}"}
	for _, test := range []struct {
		name   string
		rules  []Rule
		over   *Overrides
		topics []string
		yes    []string
		no     []string
	}{
		{"default", nil, nil, []string{"a", "b"}, []string{"a", "b"}, []string{"c", "", "a.1", "A"}},
		{"key", []Rule{user}, nil, []string{"users", "a"}, []string{"user.1"}, []string{"user.", "user", "a", "users"}},
		{"keys", []Rule{{Topic: "a", Key: "re:[^:]*|ns:.*", Channel: "{key}"}, {Topic: "b", Key: "x", Channel: "b.{key}"}}, nil, []string{"a", "b"}, []string{"1", "ns:1", "b.x"}, []string{"other:1", ":"}},
		{"keys of topics by pattern", []Rule{{Key: "re:[0-9]+", Channel: "k.{key}"}, {Key: "re:[0-9]+", Channel: "{topic}.{key}"}}, nil, []string{"re:t.*"}, []string{"k.1", "t.1", "t.x"}, []string{"k."}},
		{"topic not read", []Rule{user}, nil, []string{"a"}, nil, []string{"user.1", "a"}},
		{"partition", []Rule{{Channel: "{topic}.{partition}"}}, nil, []string{"a"}, []string{"a.0", "a.17"}, []string{"b.0", "a"}},
		{"drop", []Rule{{Topic: "a", Drop: true}, {Channel: "{topic}"}}, nil, []string{"a", "b"}, []string{"b"}, []string{"a"}},
		{"on_error", []Rule{{Channel: "k.{key}", OnError: OnError{Action: ErrorChannel, Channel: "lost"}}}, nil, []string{"a"}, []string{"lost", "k.x"}, []string{"a"}},
		{"header", nil, &Overrides{Channels: "wsd-channels", ChannelsMax: 3}, []string{"a"}, []string{"anything"}, nil},
		{"pattern", nil, nil, []string{"re:trades-.*"}, []string{"trades-1"}, []string{"trades", "a"}},
		{"pattern and prefix", []Rule{{Channel: "x.{topic}"}}, nil, []string{"re:trades-.*"}, []string{"x.trades-1"}, []string{"trades-1", "x."}},
		{"pattern and a rule for one topic", []Rule{user}, nil, []string{"re:us.*"}, []string{"user.1"}, []string{"users"}},
		{"pattern that does not match the rule", []Rule{user}, nil, []string{"re:a.*"}, nil, []string{"user.1"}},
		{"two patterns", []Rule{{Topic: "re:a.*", Channel: "{topic}"}, {Channel: "rest"}}, nil, []string{"re:.*"}, []string{"ab", "rest"}, []string{"b"}},
		{"after the last", []Rule{{Channel: "all"}, {Channel: "never"}}, nil, []string{"re:.*", "a"}, []string{"all"}, []string{"never"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			table, err := New(test.rules, test.over)
			require.NoError(t, err)
			feeds, err := table.Feeds(test.topics)
			require.NoError(t, err)
			for _, channel := range test.yes {
				require.True(t, feeds(channel), channel)
			}
			for _, channel := range test.no {
				require.False(t, feeds(channel), channel)
			}
			require.False(t, feeds("\xffuser:a"), "reserved")
		})
	}
	table, err := New(nil, nil)
	require.NoError(t, err)
	_, err = table.Feeds([]string{"a b"})
	require.ErrorContains(t, err, `topic "a b": not a topic's name`)
}
