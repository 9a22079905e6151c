package proto

import (
	"strings"
	"unicode/utf8"

	"github.com/centrifugal/protocol"
)

// ValidNames reports whether the channels and the method that cmd names are valid UTF-8. A name that is not is
// answered with ErrBadRequest: it would address something else than was meant, or nothing ever.
func ValidNames(cmd *protocol.Command) bool {
	valid := true
	eachName(cmd, func(name *string) { valid = valid && utf8.ValidString(*name) })
	return valid
}

// spoilNames makes names invalid that a lossy decoder has repaired, so that they cannot be taken for others.
func spoilNames(cmd *protocol.Command) {
	eachName(cmd, func(name *string) { *name = strings.ReplaceAll(*name, string(utf8.RuneError), "\xff") })
}

// NoChannel reports whether a request of cmd that is about a channel names none. A client that sends one has violated
// the protocol.
func NoChannel(cmd *protocol.Command) bool {
	missing := false
	eachChannel(cmd, func(name *string) { missing = missing || *name == "" })
	return missing
}

// eachName calls fn for every string of a command that addresses something. Data, tokens and the like are not names.
func eachName(cmd *protocol.Command, fn func(name *string)) {
	eachChannel(cmd, fn)
	if r := cmd.Rpc; r != nil {
		fn(&r.Method)
	}
}

// eachChannel calls fn for the channel of every request of a command that is about one.
func eachChannel(cmd *protocol.Command, fn func(channel *string)) {
	if r := cmd.Subscribe; r != nil {
		fn(&r.Channel)
	}
	if r := cmd.Unsubscribe; r != nil {
		fn(&r.Channel)
	}
	if r := cmd.Publish; r != nil {
		fn(&r.Channel)
	}
	if r := cmd.Presence; r != nil {
		fn(&r.Channel)
	}
	if r := cmd.PresenceStats; r != nil {
		fn(&r.Channel)
	}
	if r := cmd.History; r != nil {
		fn(&r.Channel)
	}
	if r := cmd.SubRefresh; r != nil {
		fn(&r.Channel)
	}
}
