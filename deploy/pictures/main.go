// Command pictures draws Grafana dashboards as SVG, with what a Prometheus has of them: for the documents, where there
// is no Grafana.
//
//	pictures -prometheus http://127.0.0.1:9090 -minutes 3 -out docs/pictures deploy/compose/grafana/dashboards/*.json
//
// A panel of any type becomes a plot of its queries over time.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "pictures: %v\n", err)
		os.Exit(1)
	}
}

// dashboard is what is drawn of a dashboard.
type dashboard struct {
	Title  string
	Panels []panel
}

type panel struct {
	Title       string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ Expr, LegendFormat string }
}

// run draws the dashboards that args name. Usage goes to stderr.
func run(args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("pictures", flag.ContinueOnError)
	flags.SetOutput(stderr)
	base := flags.String("prometheus", "http://127.0.0.1:9090", "address of Prometheus")
	minutes := flags.Int("minutes", 3, "how many minutes until now are drawn")
	out := flags.String("out", ".", "directory for the pictures")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("no dashboard is named")
	}
	if *minutes < 1 {
		return fmt.Errorf("-minutes %d: at least 1", *minutes)
	}
	end := time.Now().Truncate(time.Second)
	p := prometheus{base: *base, begin: end.Add(-time.Duration(*minutes) * time.Minute), end: end}
	for _, name := range flags.Args() {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		svg, err := d.draw(&p)
		if err != nil {
			return fmt.Errorf("draw %s: %w", name, err)
		}
		to := filepath.Join(*out, strings.TrimSuffix(filepath.Base(name), ".json")+".svg")
		if err := os.WriteFile(to, svg, 0o644); err != nil { //nolint:gosec // A picture for everybody.
			return err
		}
	}
	return nil
}
