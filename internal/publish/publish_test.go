package publish

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/produce"
	"wsd/internal/route"
)

// held is a Producer that holds records until the test settles them.
type held struct {
	full    bool
	records []*produce.Record
	done    []func(produce.Ack, error)
}

func (h *held) Produce(r produce.Record, done func(produce.Ack, error)) error {
	if h.full {
		return &produce.Error{Kind: produce.Full, Err: errors.New("full")}
	}
	h.records, h.done = append(h.records, &r), append(h.done, done)
	return nil
}

func publisher(t testing.TB, h *held, rules ...route.Rule) *Publisher {
	t.Helper()
	table, err := route.New(rules, nil)
	require.NoError(t, err)
	inv, _, err := table.Invert([]string{"chat"})
	require.NoError(t, err)
	return New(Options{Producer: h, Routes: inv, BytesMax: 100, JSONDepth: 4, KeysTTL: time.Minute, KeysMax: 4})
}

func never(t testing.TB) func(produce.Ack, error) {
	t.Helper()
	return func(produce.Ack, error) { t.Error("the callback is called") }
}

func TestPublish(t *testing.T) {
	h := &held{}
	p := publisher(t, h, route.Rule{Topic: "chat", Channel: "chat.{key}"})
	var ack produce.Ack
	require.NoError(t, p.Publish(Request{
		Channel: "chat.room", Data: []byte(`{"a":1}`), JSON: true, Client: "c1", User: "alice",
		Tags: map[string]string{"b": "2", "a": "1"},
	}, func(a produce.Ack, err error) {
		require.NoError(t, err)
		ack = a
	}))
	r := h.records[0]
	require.NoError(t, r.Prepare(r))
	require.Equal(t, "chat", r.Topic)
	require.Equal(t, "room", string(r.Key))
	require.Equal(t, int32(produce.AnyPartition), r.Partition)
	require.Equal(t, []produce.Header{{Name: "wsd-client", Value: []byte("c1")}, {Name: "wsd-user", Value: []byte("alice")},
		{Name: "wsd-tag-a", Value: []byte("1")}, {Name: "wsd-tag-b", Value: []byte("2")}}, r.Headers)
	h.done[0](produce.Ack{Partition: 1, Offset: 2}, nil)
	require.Equal(t, produce.Ack{Partition: 1, Offset: 2}, ack)
}

func TestPublishRefuses(t *testing.T) {
	h := &held{}
	p := publisher(t, h, route.Rule{Topic: "chat", Channel: "drop.x", Fields: []route.Condition{{Name: "x", Test: route.TestExists}}},
		route.Rule{Topic: "chat", Channel: "chat.{key}"})
	data := []byte("1")
	many := map[string]string{}
	for i := range route.TagsMax + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for name, test := range map[string]struct {
		r    Request
		code uint32
	}{
		"empty":     {Request{Channel: "chat.a"}, 107},
		"too large": {Request{Channel: "chat.a", Data: make([]byte, 101)}, 106},
		"long key":  {Request{Channel: "chat.a", Data: data, Key: strings.Repeat("k", KeyBytesMax+1)}, 107},
		"many tags": {Request{Channel: "chat.a", Data: data, Tags: many}, 107},
		"long tag":  {Request{Channel: "chat.a", Data: data, Tags: map[string]string{"a": strings.Repeat("v", 256)}}, 107},
		"no UTF-8":  {Request{Channel: "chat.a", Data: data, Tags: map[string]string{"a": "\xff"}}, 107},
	} {
		err := p.Publish(test.r, never(t))
		require.Error(t, err, name)
		require.Equal(t, test.code, ErrorOf(err).Reply().Code, name)
		require.False(t, ErrorOf(err).Temporary, name)
	}
	for name, test := range map[string]struct {
		r    Request
		code uint32
	}{
		"not JSON":             {Request{Channel: "chat.a", Data: []byte("{"), JSON: true}, 107},
		"too deep":             {Request{Channel: "chat.a", Data: []byte("[[[[[1]]]]]"), JSON: true}, 107},
		"no route":             {Request{Channel: "other", Data: data}, 108},
		"an earlier rule":      {Request{Channel: "chat.a", Data: []byte(`{"x":1}`)}, 108},
		"an earlier rule's":    {Request{Channel: "drop.x", Data: []byte(`{}`)}, 108},
		"not a channel's name": {Request{Channel: "chat.", Data: data}, 108},
	} {
		require.NoError(t, p.Publish(test.r, never(t)), name)
		r := h.records[len(h.records)-1]
		err := r.Prepare(r)
		require.Error(t, err, name)
		require.Equal(t, test.code, ErrorOf(&produce.Error{Kind: produce.Refused, Err: err}).Reply().Code, name)
	}
	h.full = true
	err := p.Publish(Request{Channel: "chat.a", Data: data}, never(t))
	require.Equal(t, uint32(100), ErrorOf(err).Reply().Code)
	require.True(t, ErrorOf(err).Temporary)
}

// TestIdempotencyKeys: a key is written once, whatever becomes of the first request.
func TestIdempotencyKeys(t *testing.T) {
	h := &held{}
	p := publisher(t, h, route.Rule{Topic: "chat", Channel: "chat.{key}"})
	now := time.Now()
	p.keys.now = func() time.Time { return now }
	results := make(chan error, 10)
	publish := func(channel, key string) error {
		return p.Publish(Request{Channel: channel, Data: []byte("1"), Key: key},
			func(_ produce.Ack, err error) { results <- err })
	}
	require.NoError(t, publish("chat.a", "k"))
	require.NoError(t, publish("chat.a", "k"))
	require.NoError(t, publish("chat.b", "k"), "a key is for one channel")
	require.Len(t, h.records, 2)
	h.done[0](produce.Ack{}, nil)
	require.NoError(t, <-results)
	require.NoError(t, <-results)
	require.NoError(t, publish("chat.a", "k"), "the outcome is known")
	require.NoError(t, <-results)
	require.Len(t, h.records, 2)

	// A failure is forgotten, a timeout is not.
	failed := &produce.Error{Kind: produce.Failed, Err: errors.New("x")}
	h.done[1](produce.Ack{}, failed)
	require.ErrorIs(t, <-results, error(failed))
	require.NoError(t, publish("chat.b", "k"))
	require.Len(t, h.records, 3)
	timeout := &produce.Error{Kind: produce.Timeout, Err: errors.New("x")}
	h.done[2](produce.Ack{}, timeout)
	require.Error(t, <-results)
	require.ErrorIs(t, publish("chat.b", "k"), errSameKey)
	h.records[2].Late(produce.Ack{Offset: 7}, nil)
	require.NoError(t, publish("chat.b", "k"))
	require.NoError(t, <-results)
	require.Len(t, h.records, 3)

	// The outcome may be known before the timeout that it comes after is reported.
	require.NoError(t, publish("chat.e", "k"))
	h.records[3].Late(produce.Ack{Offset: 8}, nil)
	h.done[3](produce.Ack{}, timeout)
	require.NoError(t, <-results)
	require.NoError(t, publish("chat.e", "k"))
	require.NoError(t, <-results)
	require.Len(t, h.records, 4, "it is not written again")
	require.NoError(t, publish("chat.f", "k"))
	h.records[4].Late(produce.Ack{}, failed)
	h.done[4](produce.Ack{}, timeout)
	require.Error(t, <-results)
	require.NoError(t, publish("chat.f", "k"))
	require.Len(t, h.records, 6, "it is not in the log")
	h.done[5](produce.Ack{}, nil)
	require.NoError(t, <-results)

	// Keys end by time and by number, but not while their outcome is awaited.
	now = now.Add(2 * time.Minute)
	for i := range 4 {
		require.NoError(t, publish("chat.c", fmt.Sprint(i)))
	}
	require.ErrorIs(t, publish("chat.c", "4"), errKeys)
	now = now.Add(2 * time.Minute)
	require.ErrorIs(t, publish("chat.c", "4"), errKeys)
	require.Len(t, p.keys.byKey, 4)
	for i := range 4 {
		h.done[6+i](produce.Ack{}, nil)
		require.NoError(t, <-results)
	}
	now = now.Add(-2 * time.Minute)
	// The oldest key is not forgotten for its own sake when the table is full.
	require.NoError(t, publish("chat.c", "0"))
	require.NoError(t, <-results)
	require.Len(t, h.records, 10)
	for i := range 2 {
		require.NoError(t, publish("chat.c", fmt.Sprint(10+i)))
		h.done[10+i](produce.Ack{}, nil)
		require.NoError(t, <-results)
	}
	require.Len(t, p.keys.byKey, 4)
	require.Equal(t, len(p.keys.byKey), p.keys.oldest.Len())
	h.full = true
	require.Error(t, publish("chat.d", "k"))
	h.full = false
	require.NoError(t, publish("chat.d", "k"))
	require.Len(t, h.records, 13)
}
