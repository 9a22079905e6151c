package shard

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"wsd/internal/wire"
)

// The causes for which the shard refuses an upgrade request, beside those of package wire and the quotas.
const (
	causePath           wire.Cause = "path"            // The path is not one of the client port's.
	causeQuery          wire.Cause = "query"           // A known query parameter is malformed.
	causeChannel        wire.Cause = "channel"         // A raw client named no channel, or not in order.
	causeChannelsMax    wire.Cause = "channels_max"    // A raw client named more than client.channels_max channels.
	causeUnknownChannel wire.Cause = "unknown_channel" // Nothing can feed a raw client's channel.
	causeHeadMax        wire.Cause = "head_max"        // The request is longer than client.head_max.
	causeTimeout        wire.Cause = "timeout"         // No complete request within client.handshake_timeout.
	causeStopping       wire.Cause = "stopping"        // The server is stopping.
	causeNotTLS         wire.Cause = "not_tls"         // Plain HTTP on a port that speaks TLS.
	causeAdmission      wire.Cause = "admission"       // The server is overloaded, and admission.answer is http.
	causeUnauthorized   wire.Cause = "unauthorized"    // A raw client has no token that can be verified.
	causeForbidden      wire.Cause = "forbidden"       // A raw client may not have a channel that it named.
	causeOrigin         wire.Cause = "origin"          // The page that connects is not of client.origins.
	causeForwarded      wire.Cause = "forwarded"       // A trusted proxy names its client in a malformed field.
	causeVerification   wire.Cause = "verification"    // Too many tokens wait to be verified.
)

// causes is the closed list of causes, in the order of Stats.Refused.
var causes = [...]wire.Cause{
	wire.CauseMalformed, wire.CauseNotUpgrade, wire.CauseVersion, wire.CauseProxyProtocol, wire.CauseSubprotocol,
	wire.CauseInternal, causePath, causeQuery, causeChannel, causeChannelsMax, causeUnknownChannel, causeHeadMax,
	causeTimeout, causeStopping, causeAdmission, QuotaConnections.cause(), QuotaAddressConnections.cause(),
	QuotaHandshakes.cause(), QuotaAddressHandshakes.cause(), QuotaChannels.cause(), QuotaChannelsRate.cause(),
	causeNotTLS,
	causeUnauthorized, causeForbidden, causeVerification, QuotaUserConnections.cause(),
	causeOrigin, causeForwarded,
}

// Causes lists every cause for which an upgrade request is refused, in the order of Stats.Refused.
func Causes() []wire.Cause { return causes[:] }

// causeIndex returns the place of a cause in Stats.Refused.
func causeIndex(cause wire.Cause) int {
	i := slices.Index(causes[:], cause)
	if i < 0 {
		panic("BUG: no such cause of a refusal: " + string(cause))
	}
	return i
}

// rejectForNow refuses an upgrade request of a client that is to come back after the given number of seconds, and up to
// twice that at random, so that a crowd does not come back as one.
func rejectForNow(cause wire.Cause, status int, body string, seconds int) *wire.Reject {
	seconds += rand.IntN(seconds + 1) //nolint:gosec // A lot needs no secret.
	return &wire.Reject{Cause: cause, Status: status, Body: body,
		Header: [][2]string{{"Retry-After", strconv.Itoa(seconds)}}}
}

// originShown is how many bytes of an origin are shown.
const originShown = 200

// wrongOrigin refuses an upgrade request of a page that may not connect.
func wrongOrigin(origin string) *wire.Reject {
	return &wire.Reject{Cause: causeOrigin, Status: 403, Body: fmt.Sprintf("Pages of the origin %q may not connect to "+
		"this server: it is not in client.origins.", origin[:min(len(origin), originShown)])}
}

var headTooLong = &wire.Reject{Cause: causeHeadMax, Status: 431,
	Body: "The upgrade request is longer than client.head_max allows."}

var headTooLate = &wire.Reject{Cause: causeTimeout, Status: 408,
	Body: "The upgrade request was not complete within client.handshake_timeout."}
