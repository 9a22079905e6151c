package source

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzMetadata reads what stands beside a committed offset, where anybody who may commit for the group can write. Only
// what wsd writes names a topic.
func FuzzMetadata(f *testing.F) {
	f.Add(*metadataOf([16]byte{1, 2, 255}))
	f.Add("topic ")
	f.Add("topic AAAAAAAAAAAAAAAAAAAAAA==")
	f.Add("topic AAAAAAAAAAAAAAAAAAAAAB") // Its last digit has bits that belong to no byte.
	f.Add("topic \n" + strings.Repeat("A", 22))
	f.Fuzz(func(t *testing.T, text string) {
		id := topicIDOf(&text)
		if id == [16]byte{} {
			return
		}
		require.True(t, strings.HasPrefix(text, metadataPrefix))
		require.Equal(t, id, topicIDOf(metadataOf(id)))
	})
}
