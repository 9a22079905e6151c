// Package auth verifies the tokens by which clients say who they are: JSON Web Tokens (RFC 7519), signed by keys that
// the operator has configured.
//
// A Verifier is a function of a token, its keys and the clock. Keys are values that never change; KeyStore has the ones
// in use, and others may replace them at any time. A Pool verifies in a bounded number of goroutines, bounds what may
// wait, and remembers addresses that sent tokens which cannot be verified.
//
// The package opens no sockets and no files: whoever uses it fetches key sets and reads key files. What it returns and
// reports as errors never contains a token or a part of one.
package auth
