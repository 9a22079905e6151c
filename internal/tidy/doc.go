// Package tidy holds the project's style as tests: which package may import
// which, how long a file may grow, what must not be committed or written.
//
// It reads the source tree and has no code of its own to import. It does not
// judge what golangci-lint judges (.golangci.yml), and it does not format.
package tidy
