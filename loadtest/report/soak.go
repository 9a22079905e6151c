package report

import (
	"fmt"
	"strconv"
)

// Soak is what the disturbing clients of a soak did and saw.
type Soak struct {
	Seed           uint64           `json:"seed" label:"seed"`
	Sustained      float64          `json:"sustained_per_second" label:"highest rate measured" unit:"/s"` // 0: not measured.
	Disturbers     int              `json:"disturbers" label:"disturbers"`
	Connections    int64            `json:"connections" label:"connections"`
	Upgraded       int64            `json:"upgraded" label:"upgraded"`
	Slows          int64            `json:"slows" label:"times reading slowly"`
	Stops          int64            `json:"stops" label:"times not reading"`
	Recovered      int64            `json:"recovered" label:"times all records came afterwards"`
	ResetUpgrade   int64            `json:"reset_in_upgrade" label:"reset in the upgrade"`
	ResetClear     int64            `json:"reset_clear" label:"reset, without a reason for the server to close it"`
	ResetBehind    int64            `json:"reset_behind" label:"reset, with a reason for the server to close it"`
	HalfFrames     int64            `json:"half_frames" label:"reset with half a frame sent"`
	Left           int64            `json:"left" label:"closed with a close frame"`
	Cut            int64            `json:"cut" label:"cut by the server"`
	ClosedByServer map[string]int64 `json:"closed_by_server" label:"closed by the server"`
	NotUpgraded    map[string]int64 `json:"not_upgraded" label:"not upgraded"`
	NotDialed      map[string]int64 `json:"not_dialed" label:"not connected"`
	Deliveries     int64            `json:"deliveries" label:"deliveries"`
	Unread         int64            `json:"unread_connections" label:"connections that may have missed their last records"`
	UnreadMax      uint64           `json:"unread_max" label:"max. records they missed"`
	InKernel       int64            `json:"in_kernel_connections" label:"connections whose buffers were lost"`
	InKernelMax    uint64           `json:"in_kernel_max" label:"max. records in these buffers"`
}

// Memory is the memory of a soak: of the server's process, and of the buffers of all TCP sockets of the machine.
type Memory struct {
	Samples          int     `json:"samples" label:"samples, one per second"`
	RSSSecondQuarter int64   `json:"rss_second_quarter_bytes" label:"RSS, median of the second quarter" unit:"B"`
	RSSLastQuarter   int64   `json:"rss_last_quarter_bytes" label:"RSS, median of the last quarter" unit:"B"`
	RSSAllowed       int64   `json:"rss_allowed_bytes" label:"RSS, allowed in the last quarter" unit:"B"`
	RSSMax           int64   `json:"rss_max_bytes" label:"RSS, max." unit:"B"`
	SlopePerMinute   float64 `json:"rss_slope_bytes_per_minute" label:"RSS, slope after the first quarter" unit:"B/min"`
	TCPSecondQuarter int64   `json:"tcp_second_quarter_bytes" label:"TCP memory, median of the second quarter" unit:"B"`
	TCPLastQuarter   int64   `json:"tcp_last_quarter_bytes" label:"TCP memory, median of the last quarter" unit:"B"`
	TCPMax           int64   `json:"tcp_max_bytes" label:"TCP memory, max." unit:"B"`
	Judged           bool    `json:"judged" label:"long enough to judge"`
	Flat             bool    `json:"flat" label:"flat"`
}

// Account compares a figure of the server with what the clients know about it.
type Account struct {
	What   string `json:"what"`   // Name of the figure.
	Server int64  `json:"server"` // Figure of the server.
	Min    int64  `json:"least"`  // Lowest value that is possible according to the clients.
	Max    int64  `json:"most"`   // Highest value that is possible according to the clients.
}

// Matches reports whether the server's figure is possible according to the clients.
func (a Account) Matches() bool { return a.Min <= a.Server && a.Server <= a.Max }

// String returns the comparison as one line.
func (a Account) String() string {
	return fmt.Sprintf("%s: %s%s", a.What, group(strconv.FormatInt(a.Server, 10)), a.verdict())
}

// verdict returns what the server's figure should be.
func (a Account) verdict() string {
	lowest, highest := group(strconv.FormatInt(a.Min, 10)), group(strconv.FormatInt(a.Max, 10))
	switch {
	case a.Matches() && a.Min == a.Max:
		return "  exactly"
	case a.Matches():
		return "  of " + lowest + " to " + highest
	case a.Min == a.Max:
		return "  NOT " + lowest
	default:
		return "  NOT in " + lowest + " to " + highest
	}
}
