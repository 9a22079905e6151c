// Package rules decides who may have which channel, by an ordered list of rules from the configuration.
//
// Thread rule: Rules never change, and any goroutine may use them. The package knows nothing of tokens: whoever uses it
// says what is known of a client.
package rules
