package admin

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The page shows values of any depth. One that throws would stop the table for good.
func TestMessagesOfAnyDepth(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "messages.mjs"), asset("messages.js"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "test.mjs"), []byte(`
import { pretty } from "./messages.mjs";
globalThis.document = { createElement: () => ({}) };
const text = (nodes) => nodes.map((n) => n.textContent ?? n).join("");
for (const depth of [1, 2, 100, 190, 300, 5_000, 10_000, 300_000]) {
  for (const [open, middle, close] of [["[", "", "]"], ['{"[{":', '"\\"]}"', "}"]]) {
    const value = open.repeat(depth) + middle + close.repeat(depth);
    for (const indented of [false, true]) {
      const shown = text(pretty('{"push":{"channel":"a","pub":{"data":' + value + ',"offset":1}}}', indented));
      if (!shown.includes(open[0])) throw new Error(depth + ": " + shown);
      if (shown.length > 5_000) throw new Error(depth + ": " + shown.length + " characters");
    }
  }
}
const flat = text(pretty('{"push":{"channel":"a","pub":{"data":{"a":"]]","b":[1,2]}}}}', false));
if (flat !== '{"a": "]]", "b": [1, 2]}') throw new Error(flat);
`), 0o600))
	out, err := exec.Command(node, filepath.Join(dir, "test.mjs")).CombinedOutput() // Both are ours.
	require.NoError(t, err, "%s", out)
}
