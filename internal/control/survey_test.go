package control

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnheard(t *testing.T) {
	require.False(t, Unheard{}.Any())
	require.True(t, Unheard{Missing: []int{0}}.Any())
	require.True(t, Unheard{Busy: []int{0}}.Any())

	a := Unheard{Missing: []int{1, 3}, Busy: []int{}}
	require.Equal(t, Unheard{Missing: []int{1, 2, 3}, Busy: []int{4}}, a.Or(Unheard{Missing: []int{2, 3}, Busy: []int{4}}))
	require.Equal(t, Unheard{Missing: []int{1, 3}, Busy: []int{}}, a, "as it was")

	// The page takes the lengths of the lists.
	text, err := json.Marshal(Unheard{Missing: []int{}, Busy: []int{}}.Or(Unheard{}))
	require.NoError(t, err)
	require.JSONEq(t, `{"missing": [], "busy": []}`, string(text))
}
