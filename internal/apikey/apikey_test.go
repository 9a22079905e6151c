package apikey

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	keys, err := ParseFile([]byte("# Of the shop.\n\n0123456789abcdef methods=publish|info channels=news:*|chat\n  short\t\n"))
	require.NoError(t, err)
	require.Len(t, keys, 2)
	require.False(t, keys[0].Short())
	require.True(t, keys[1].Short())

	for text, want := range map[string]string{
		"k methods=fly": `"fly" is not a method`, "k channels=a*b": "only stand at the end", "k channels=": "lists nothing",
		"k methods=publish|": "empty part", "k x": "not methods= or channels=", "k methods": "lists nothing",
	} {
		_, err := Parse([]string{text})
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "key 1: ")
	}
	_, err = Parse([]string{"secret-one", "secret-one"})
	require.EqualError(t, err, "key 2 is there twice")
	_, err = ParseFile([]byte("# nothing\n"))
	require.ErrorContains(t, err, "has no key")
	many := make([]string, keysMax+1)
	for i := range many {
		many[i] = fmt.Sprint("key", i)
	}
	_, err = Parse(many)
	require.ErrorContains(t, err, "more than 256 keys")
}

func TestAllows(t *testing.T) {
	keys, err := Parse([]string{"all", "some methods=publish|info channels=news:*|chat", "every channels=*"})
	require.NoError(t, err)
	all, some, every := &keys[0], &keys[1], &keys[2]
	for _, method := range Methods() {
		require.True(t, all.AllowsMethod(method))
		require.False(t, all.NamesMethod(method))
		require.Equal(t, method == "publish" || method == "info", some.AllowsMethod(method), method)
		require.Equal(t, some.AllowsMethod(method), some.NamesMethod(method), method)
	}
	for channel, allowed := range map[string]bool{
		"news:": true, "news:a": true, "news": false, "xnews:a": false, "chat": true, "chats": false, "": false, "*": false,
	} {
		require.Equal(t, allowed, some.AllowsChannel(channel), channel)
		require.True(t, all.AllowsChannel(channel))
		require.True(t, every.AllowsChannel(channel))
	}
	require.True(t, all.AllChannels())
	require.True(t, every.AllChannels())
	require.False(t, some.AllChannels())
}

func TestFind(t *testing.T) {
	keys, err := Parse([]string{"one", "two methods=info"})
	require.NoError(t, err)
	for shown, want := range map[[2]string]*Key{
		{"X-Api-Key", "one"}:               &keys[0],
		{"X-Api-Key", "two"}:               &keys[1],
		{"Authorization", "apikey two"}:    &keys[1],
		{"Authorization", "APIKEY   one "}: &keys[0],
		{"Authorization", "Bearer one"}:    nil,
		{"Authorization", "one"}:           nil,
		{"X-Api-Key", "two methods=info"}:  nil,
		{"X-Api-Key", "on"}:                nil,
		{"X-Api-Key", ""}:                  nil,
		{"X-Other", "one"}:                 nil,
	} {
		require.Same(t, want, Find(keys, &http.Request{Header: http.Header{shown[0]: {shown[1]}}}), shown)
	}
	require.Nil(t, Find(nil, &http.Request{Header: http.Header{}}))
}
