package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// row is one line of the table.
type row struct {
	system string // baseline or wsd.
	opt    int    // Optimisation of the baseline; 0: none; optAll: all.
	shards int
}

const optAll = 99

// plan is what was estimated for an optimisation.
type plan struct {
	name      string
	low, high int // Connections gained, over the 4,754 of the bare system with 7 shards.
}

// plans are the estimates, by optimisation.
var plans = map[int]plan{
	1:      {"1 central CPU check", 150, 200},
	2:      {"2 sampled CPU check", 100, 150},
	3:      {"3 Kafka batches", 300, 400},
	4:      {"4 bus batches", 200, 300},
	5:      {"5 shared Kafka pool", 800, 1200},
	6:      {"6 routed messages", 400, 600},
	7:      {"7 unix sockets", 300, 500},
	8:      {"8 goroutine pool", 400, 600},
	9:      {"9 Kafka shards", 1500, 2000},
	10:     {"10 shared ring", 800, 1200},
	11:     {"11 direct connections", 1000, 1500},
	optAll: {"all", 3846, 5446}, // 8,600 to 10,200.
}

// What the plan reports of its bare system: connections held of 12,000, and per core.
const (
	planOf    = 12_000
	planHeld3 = 5180
	planHeld7 = 4754
	planCore3 = 1762
	planCore7 = 701
)

// estimate is the plan's text for a row.
func (r row) estimate() string {
	switch {
	case r.system == "wsd":
		return "–"
	case r.opt == 0 && r.shards == 3:
		return fmt.Sprintf("%d of %d held (43 %%), %d per core", planHeld3, planOf, planCore3)
	case r.opt == 0:
		return fmt.Sprintf("%d of %d held (40 %%), %d per core", planHeld7, planOf, planCore7)
	}
	p := plans[r.opt]
	text := fmt.Sprintf("+%d to +%d (+%.0f to +%.0f %%)", p.low, p.high, 100*float64(p.low)/planHeld7,
		100*float64(p.high)/planHeld7)
	return text
}

// key names a row on the command line and in plots.
func (r row) key() string {
	switch {
	case r.system == "wsd":
		return fmt.Sprintf("wsd at %d", r.shards)
	case r.opt == 0:
		return fmt.Sprintf("none at %d", r.shards)
	case r.opt == optAll:
		return fmt.Sprintf("all at %d", r.shards)
	default:
		return fmt.Sprintf("%d at %d", r.opt, r.shards)
	}
}

// title names a row in the table.
func (r row) title() string {
	switch {
	case r.system == "wsd":
		return "**wsd**"
	case r.opt == 0:
		return "bare"
	default:
		return plans[r.opt].name
	}
}

// args are the baseline's options for the row.
func (r row) args() []string {
	list := []string{"--shards", strconv.Itoa(r.shards)}
	switch r.opt {
	case 0:
		return list
	case optAll:
		return append(list, "--all")
	default:
		return append(list, "--opt", strconv.Itoa(r.opt))
	}
}

// direct reports whether clients connect to the shards themselves.
func (r row) direct() bool { return r.system == "baseline" && (r.opt == 11 || r.opt == optAll) }

// allRows is the whole table. The rows of wsd are among those of the baseline, so that all kinds share what the
// machine does at a time.
func allRows() (list []row) {
	wsd := []int{3, 7, 64}
	for _, shards := range []int{3, 7} {
		for opt := range 12 {
			list = append(list, row{"baseline", opt, shards})
			if opt%6 == 5 && len(wsd) > 0 {
				list = append(list, row{"wsd", 0, wsd[0]})
				wsd = wsd[1:]
			}
		}
		list = append(list, row{"baseline", optAll, shards})
	}
	return list
}

func (c *config) selected() (list []row) {
	for _, r := range allRows() {
		if c.rows.MatchString(r.key()) {
			list = append(list, r)
		}
	}
	return list
}

// shown are the selected rows as documents list them: wsd last.
func (c *config) shown() []row {
	list := c.selected()
	slices.SortStableFunc(list, func(a, b row) int { return strings.Compare(a.system, b.system) })
	return list
}

func names() string {
	var list []string
	for _, r := range allRows() {
		list = append(list, r.key())
	}
	return strings.Join(list, ", ")
}
