package rules

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAllows(t *testing.T) {
	r, err := Parse([]string{
		"public.secret=nobody", "public.*=all", "user.{sub}=user", "box.{sub}.*=user", "room.{sub}:in=user|token", "team.*=claim:teams|token",
		"$*=token", "a=b=user", "*=claim:rest",
	})
	require.NoError(t, err)
	alice := Client{User: "alice", Lists: map[string][]string{"teams": {"team.red", "team.blue.*"}, "rest": {"x"}}}
	star := Client{User: "*", Lists: map[string][]string{}}
	dotted := Client{User: "a.b"}
	token := Client{User: "alice", Token: true}
	for _, test := range []struct {
		client  Client
		channel string
		want    bool
	}{
		{Client{}, "public.news", true},
		{alice, "public.secret", false},
		{Client{}, "user.", false},
		{Client{}, "user.alice", false},
		{alice, "user.alice", true},
		{alice, "user.bob", false},
		{alice, "user.alice.x", false},
		{star, "user.bob", false},
		{star, "user.*", true},
		{Client{User: "a"}, "user.a.b", false},
		{dotted, "user.a.b", true},
		{alice, "box.alice.x", true},
		{alice, "box.alice.", true},
		{alice, "box.alice", false},
		{alice, "box.bob.x", false},
		{dotted, "box.a.b.x", false},
		{Client{User: "a"}, "box.a.b.x", true},
		{alice, "room.alice:in", true},
		{alice, "room.bob:in", false},
		{token, "room.bob:in", true},
		{alice, "team.red", true},
		{alice, "team.redder", false},
		{alice, "team.blue.1", true},
		{alice, "team.green", false},
		{token, "team.green", true},
		{alice, "$a", false},
		{token, "$a", true},
		{alice, "a=b", true},
		{Client{}, "a=b", false},
		{alice, "x", true},
		{alice, "y", false},
	} {
		require.Equal(t, test.want, r.Allows(&test.client, test.channel), "%+v %s", test.client, test.channel)
		d := r.Explain(&test.client, test.channel)
		require.Equal(t, test.want, d.Allowed)
		require.NotEmpty(t, d.Why)
	}
	require.Equal(t, []string{"rest", "teams"}, r.Claims())
	require.True(t, r.NeedTokens())
	none := &Rules{}
	require.False(t, none.Allows(&token, "public.a"), "what no rule allows is refused")
	require.Equal(t, -1, none.Explain(&token, "public.a").Rule)
}

func TestParseErrors(t *testing.T) {
	for problem, texts := range map[string][]string{
		"write PATTERN=WHO":       {"public.*"},
		"does not say who":        {"a=everyone"},
		`"all|nobody" does not`:   {"a=all|nobody"},
		"at the end of a pattern": {"a*b=all"},
		"may be there once":       {"a.{sub}.{sub}=user"},
		"others, whose names":     {"a.{sub}*=user"},
		"only placeholder":        {"a.{user}=user"},
		"write user":              {"a.{sub}=all"},
		`after "a.*=all"`:         {"a.*=all", "a.b=user"},
		`after "a=all"`:           {"a=all", "a=nobody"},
		`after "*=user"`:          {"*=user", "u.{sub}=user"},
		`after "u.{sub}=user"`:    {"u.{sub}=user", "u.{sub}=token"},
		`"claim:" does not`:       {"a=claim:"},
	} {
		_, err := Parse(texts)
		require.ErrorContains(t, err, problem)
	}
}

func TestMayAllow(t *testing.T) {
	r, err := Parse([]string{"chat.secret=nobody", "chat.*=all", "user.{sub}.box=user", "news=user", "none.*=nobody"})
	require.NoError(t, err)
	for _, test := range []struct {
		name         string
		prefix, want bool
	}{
		{"chat.a", false, true}, {"chat.", true, true}, {"ch", true, true}, {"", true, true}, {"ch", false, false},
		{"user.a.box", false, true}, {"user.", true, true}, {"news", false, true}, {"news", true, true}, {"news.", true, false},
		{"none.a", false, false}, {"none.", true, false}, {"x", true, false},
	} {
		require.Equal(t, test.want, r.MayAllow(test.name, test.prefix), "%+v", test)
	}
	require.True(t, r.NeedUsers())
	public, err := Parse([]string{"a=all", "b=nobody"})
	require.NoError(t, err)
	require.False(t, public.NeedUsers())
}
