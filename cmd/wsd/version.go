package main

import (
	"fmt"
	"runtime"
)

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(e env) error {
	_, err := fmt.Fprintf(e.stdout, "wsd %s (commit %s, %s, %s/%s)\n", version, commit, runtime.Version(), runtime.GOOS,
		runtime.GOARCH)
	return err
}
