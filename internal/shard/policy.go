package shard

import "strings"

// Policy is what happens to a client that does not keep up with a channel. A client with more than OutboundMax bytes
// waiting after the message being sent is closed, unless PolicyResync can make room.
type Policy uint8

// The policies.
const (
	// PolicyDisconnect queues everything until the limit closes the connection.
	PolicyDisconnect Policy = iota
	// PolicyConflate gives a client that is behind the newest record of each key; see conflate.go.
	PolicyConflate
	// PolicyResync drops what waits of the channel and has the client subscribe again; see resync.go.
	PolicyResync
	policyCount
)

var policyNames = [policyCount]string{
	PolicyDisconnect: "disconnect", PolicyConflate: "conflate", PolicyResync: "resync",
}

// String is the policy's name in the configuration and its metric label.
func (p Policy) String() string { return policyNames[p] }

// Policies lists every policy.
func Policies() []Policy { return []Policy{PolicyDisconnect, PolicyConflate, PolicyResync} }

// SlowPolicy says which policy channels have.
type SlowPolicy struct {
	Pattern string // A channel's name, or a prefix followed by *.
	Policy  Policy
}

// fits reports whether a pattern, see SlowPolicy.Pattern, matches the channel.
func fits(pattern, channel string) bool {
	if beginning, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(channel, beginning)
	}
	return pattern == channel
}

// policyOf returns the policy of a channel: that of the first pattern that matches.
func policyOf(list []SlowPolicy, channel string) Policy {
	for i := range list {
		if fits(list[i].Pattern, channel) {
			return list[i].Policy
		}
	}
	return PolicyDisconnect
}
