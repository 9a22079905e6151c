package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// drawTop prints an update over the one before, in one write, on at most so many lines of at most so many columns. With
// a problem there was no answer, and the update is an old one.
func drawTop(w io.Writer, u topUpdate, problem error, lines, columnsMax int) error {
	var b bytes.Buffer
	if problem != nil {
		fmt.Fprintf(&b, "! no answer, what follows is old: %v\n", problem)
	}
	fmt.Fprintf(&b, "wsd %s  %s  up %v  %s  %s; press Ctrl-C to stop\n", u.Version, u.Status,
		time.Duration(u.UptimeSeconds)*time.Second, u.Time.Format(time.TimeOnly), u.Steering)
	fmt.Fprintf(&b, "%d clients  %d subscriptions  %.0f deliveries/s  CPU %.0f%% of %d  memory %s  lag %d\n", u.Clients,
		u.Subscriptions, u.DeliveriesRate, u.CPU*100, u.CPUs, mebibytes(u.MemoryBytes), u.Lag)
	if u.Status != "draining" { // A drain refuses whatever admission says. The reasons have it.
		fmt.Fprintf(&b, "admission: %s\n", u.Admission)
	}
	for _, reason := range u.Reasons[:min(len(u.Reasons), 3)] {
		fmt.Fprintf(&b, "! %s\n", reason)
	}
	if u.KafkaError != "" {
		fmt.Fprintf(&b, "! Kafka: %s\n", u.KafkaError)
	}
	for _, line := range unheardLines(u.Unheard) {
		fmt.Fprintf(&b, "! %s\n", line)
	}
	// What is left is shared out: a third for shards, and what they leave for channels and clients.
	left := max(0, lines-bytes.Count(b.Bytes(), []byte("\n"))-7)
	shards := min(len(u.Shards), max(left/3, left-len(u.Channels)-len(u.Waiting)))
	channels := min(len(u.Channels), max((left-shards)/2, left-shards-len(u.Waiting)))
	waiting := min(len(u.Waiting), left-shards-channels)

	table := columns(&b)
	fmt.Fprintln(table, "\nSHARD\tCLIENTS\tLOAD\tSUBSCRIPTIONS\tDELIVERIES/S\tBATCHES BEHIND")
	for _, s := range u.Shards[:shards] {
		fmt.Fprintf(table, "%d\t%d\t%d\t%d\t%.0f\t%d\n", s.ID, s.Clients, s.Load, s.Subscriptions, s.DeliveriesRate,
			s.LagBatches)
	}
	_ = table.Flush() // To memory.
	table = columns(&b)
	fmt.Fprintf(table, "\nCHANNEL (%d)\tSUBSCRIBERS\tRECORDS/S\tDELIVERIES/S\n", u.ChannelsTotal)
	for _, c := range u.Channels[:channels] {
		fmt.Fprintf(table, "%s\t%d\t%.1f\t%.0f\n", strconv.QuoteToGraphic(c.Channel), c.Subscribers, c.RecordsRate,
			c.DeliveriesRate)
	}
	_ = table.Flush()
	fmt.Fprintf(&b, "\nBytes wait for %d clients\n", u.WaitingClients)
	if waiting > 0 {
		_ = printClients(&b, u.Waiting[:waiting])
	}
	var out strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
		if i == lines {
			break
		}
		out.WriteString(cut(line, columnsMax) + eraseRight + "\n")
	}
	_, err := fmt.Fprint(w, cursorHome, strings.TrimSuffix(out.String(), "\n"), eraseBelow)
	return err
}

// cut returns as much of line as fits into so many columns of a terminal.
func cut(line string, columns int) string {
	for i, r := range line {
		if columns -= columnsOf(r); columns < 0 {
			return line[:i]
		}
	}
	return line
}

// combining are the characters that take no column of their own, and wide the scripts whose characters take two.
var (
	combining = []*unicode.RangeTable{unicode.Mn, unicode.Me}
	wide      = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Yi}
)

// columnsOf returns how many columns of a terminal a character takes: two if it is wide, as Chinese ones are, and none
// if it combines with the one before.
func columnsOf(r rune) int {
	const symbols, fullFirst, fullLast, emoji = '\u3000', '\uff00', '\uff60', '\U0001f000'
	switch {
	case unicode.IsOneOf(combining, r):
		return 0
	case unicode.IsOneOf(wide, r),
		r >= symbols && r < symbols+0x40, r >= fullFirst && r <= fullLast, r >= emoji:
		return 2
	default:
		return 1
	}
}

// terminalSize returns how many lines and columns the terminal at standard output has.
func terminalSize() (lines, columns int) {
	size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Row == 0 || size.Col == 0 {
		return 24, 80
	}
	return int(size.Row), int(size.Col)
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
