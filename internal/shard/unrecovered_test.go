package shard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
)

// A client that cannot be given all gets nothing of it, and goes on from the position as it is then.
func TestUnrecovered(t *testing.T) {
	const unrecovered = `{"id":5,"subscribe":{"recoverable":true,"epoch":"epoch","offset":%d,"positioned":true,"was_recovering":true}}`
	p := newPastRig(t, nil)
	p.numbers(1, 6)
	c := p.joined()
	p.say(c, back(2, ""))
	p.numbers(6, 8)
	p.step()
	p.past.answer(bus.ResultGone)
	require.JSONEq(t, fmt.Sprintf(unrecovered, 7), p.hear(c))
	p.numbers(8, 9)
	require.Equal(t, push(8), p.hear(c))
	require.EqualValues(t, 2, p.shard.Stats().Dropped.Load())
	require.EqualValues(t, 1, p.shard.Stats().Unrecovered[RecoveryMemory].Load())

	c = p.joined()
	p.say(c, strings.ReplaceAll(back(2, ""), `"epoch":"epoch"`, `"epoch":"another"`))
	require.JSONEq(t, fmt.Sprintf(unrecovered, 8), p.hear(c))
	require.EqualValues(t, 1, p.shard.Stats().Unrecovered[RecoveryNone].Load())

	c = p.joined()
	p.say(c, back(2, `,"flag":2`))
	p.past.answer(bus.ResultGone)
	require.Contains(t, p.hear(c), `"error":{"code":112`)
	require.EqualValues(t, 2, p.shard.Stats().Subscriptions.Load(), "it has none")
	p.say(c, strings.ReplaceAll(back(2, ""), `"a"`, `"b"`))
	require.JSONEq(t, `{"id":5,"subscribe":{"was_recovering":true}}`, p.hear(c), "a channel without a stream")
	require.Empty(t, p.past.waiting())
}

// While there is too much work to begin with a client's recovery, it is to come again: it has lost nothing.
func TestRecoverLater(t *testing.T) {
	const later = `{"id":5,"error":{"code":100,"message":"cannot recover now","temporary":true}}`
	p := newPastRig(t, nil)
	p.numbers(1, 6)
	for _, flags := range []string{"", `,"flag":2`} {
		for _, result := range []bus.Result{bus.ResultTimeout, bus.ResultOverload, bus.ResultShare} {
			c := p.joined()
			p.say(c, back(2, flags))
			require.EqualValues(t, 1, p.shard.Stats().Subscriptions.Load())
			p.past.answer(result)
			require.JSONEq(t, later, p.hear(c))
			require.Zero(t, p.shard.Stats().Subscriptions.Load())
			p.say(c, back(2, flags))
			p.past.answer(bus.ResultOK)
			require.JSONEq(t, fmt.Sprintf(recoveredWith, pubs(3, 6), 2), p.hear(c))
			p.say(c, `{"id":6,"unsubscribe":{"channel":"a"}}`)
		}
	}
	require.Zero(t, p.shard.Stats().Unrecovered[RecoveryMemory].Load())
}
