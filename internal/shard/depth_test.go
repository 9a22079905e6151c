package shard

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
)

// TestDepth: of a channel with a depth, clients recover and read the last publications and no more.
func TestDepth(t *testing.T) {
	p := newPastRig(t, func(o *Options) {
		o.Recovery.PublicationsMax, o.Recovery.HistoryMax = 20, 10
		o.Recovery.Depths = []Depth{{Pattern: "a", Publications: 3, Age: time.Hour}, {Pattern: "*", Publications: 1}}
	})
	p.numbers(1, 9)
	c := p.joined()
	for request, want := range map[string]string{
		`"limit":-1`:                                    pubs(6, 9),
		`"limit":2`:                                     pubs(6, 8),
		`"limit":9,"since":{"offset":1}`:                pubs(6, 9),
		`"limit":9,"since":{"offset":7}`:                pubs(8, 9),
		`"limit":9,"since":{"offset":8}`:                `"publications":[],`,
		`"limit":9,"reverse":true`:                      `"publications":[{"data":8,"offset":8},{"data":7,"offset":7},{"data":6,"offset":6}],`,
		`"limit":9,"reverse":true,"since":{"offset":8}`: `"publications":[{"data":7,"offset":7},{"data":6,"offset":6}],`,
		`"limit":9,"reverse":true,"since":{"offset":2}`: `"publications":[],`,
	} {
		p.say(c, `{"id":5,"history":{"channel":"a",`+request+`}}`)
		for _, q := range p.past.waiting() {
			require.Equal(t, 3, q.RecordsMax)
			require.Equal(t, bus.QueryLast, q.Kind)
			require.NotZero(t, q.Oldest)
		}
		p.past.answer(bus.ResultOK)
		require.JSONEq(t, fmt.Sprintf(`{"id":5,"history":{%s"epoch":"epoch","offset":8}}`, want), p.hear(c), request)
	}
	p.say(c, `{"id":6,"subscribe":{"channel":"a","recover":true,"offset":4,"epoch":"epoch"}}`)
	q := p.past.waiting()[0]
	require.Equal(t, 3, q.CountMax)
	require.InDelta(t, time.Now().Add(-time.Hour).UnixMilli(), q.Oldest, float64(waitMax.Milliseconds()))
	p.past.answer(bus.ResultLimit)
	require.Contains(t, p.hear(c), `"was_recovering":true`)
}
