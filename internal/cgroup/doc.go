// Package cgroup reads which limits the control groups of Linux set for this process, and how much of them is in use.
// It knows versions 1 and 2, and machines that have both.
//
// A limit holds for all groups below the one that sets it, so every function looks at the group of this process and at
// each group above it, as far as they are visible: in a container only a part of the tree is mounted.
//
// Thread rule: every function may be called from any goroutine.
package cgroup
