// Command sbom writes the bill of materials of Go programs, and of the Debian packages beside them, as CycloneDX 1.5 in
// JSON.
//
//	sbom -name wsd -version v1.2.3 [-packages /var/lib/dpkg/status.d] bin/wsd bin/loadtest
//
// The modules are read from the programs themselves, as go version -m does. The output depends on the input alone: it
// holds no time and no serial number.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "sbom: %v\n", err)
		os.Exit(1)
	}
}

// run writes the bill of materials that args ask for to stdout. Usage goes to stderr.
func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("sbom", flag.ContinueOnError)
	flags.SetOutput(stderr)
	name := flags.String("name", "wsd", "what the bill is of")
	version := flags.String("version", "unknown", "its version")
	packages := flags.String("packages", "", "directory with a control file for each Debian package")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("name at least one program")
	}
	b := newBill(*name, *version)
	for _, path := range flags.Args() {
		if err := b.addProgram(path); err != nil {
			return err
		}
	}
	if *packages != "" {
		if err := b.addPackages(*packages); err != nil {
			return err
		}
	}
	return b.write(stdout)
}
