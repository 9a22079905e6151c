package routing

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// While somebody looks for names with a match that takes long, the table is free: the router and all shards need it.
func TestNamesOfHoldsNothing(t *testing.T) {
	table := NewInterest()
	table.Add("a", 1, 0)
	looks := 0
	names := table.NamesOf(func(name string) bool {
		looked := make(chan bool, 1)
		go func() {
			_, known := table.Lookup([]byte(name))
			looked <- known
		}()
		looks++
		select {
		case known := <-looked:
			return known
		case <-time.After(10 * time.Second):
			return false
		}
	}, 10)
	require.Equal(t, []string{"a"}, names)
	require.Equal(t, 1, looks)
}
