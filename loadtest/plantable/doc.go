// Command plantable measures the plan's table: the baseline with each of its optimisations and wsd, alternating on one
// machine under one CPU cap. It writes docs/results.md with its plots. See docs/baseline.md.
package main
