package shard

import "strings"

// Policy is what a client meets that does not keep up with a channel. Whatever the policy, a client with more than OutboundMax bytes
// waiting behind the message being sent is closed.
type Policy uint8

// The policies.
const (
	PolicyDisconnect Policy = iota // Everything is queued until the limit closes the connection.
	PolicyConflate                 // Of what comes while the client is behind it gets the newest record of each key. See merge.
	PolicyResync                   // What waits of the channel is dropped, and the client is told to subscribe again. See resync.
	policyCount
)

var policyNames = [policyCount]string{PolicyDisconnect: "disconnect", PolicyConflate: "conflate", PolicyResync: "resync"}

// String is the policy's name in the configuration and its metric label.
func (p Policy) String() string { return policyNames[p] }

// Policies lists every policy.
func Policies() []Policy { return []Policy{PolicyDisconnect, PolicyConflate, PolicyResync} }

// SlowPolicy says which policy channels have.
type SlowPolicy struct {
	Pattern string // A channel's name, or the beginning of names with a * behind it.
	Policy  Policy
}

// fits reports whether a pattern, see SlowPolicy.Pattern, is of the channel.
func fits(pattern, channel string) bool {
	if beginning, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(channel, beginning)
	}
	return pattern == channel
}

// policyOf returns the policy of a channel: that of the first pattern that fits.
func policyOf(list []SlowPolicy, channel string) Policy {
	for i := range list {
		if fits(list[i].Pattern, channel) {
			return list[i].Policy
		}
	}
	return PolicyDisconnect
}
