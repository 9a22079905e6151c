package report

import (
	"fmt"
	"strconv"
)

// Soak is what the clients of a soak that disturb did and saw.
type Soak struct {
	Seed           uint64           `json:"seed" label:"seed"`
	Sustained      float64          `json:"sustained_per_second" label:"highest rate measured" unit:"/s"` // 0: not measured.
	Disturbers     int              `json:"disturbers" label:"disturbers"`
	Connections    int64            `json:"connections" label:"connections"`
	Upgraded       int64            `json:"upgraded" label:"upgraded"`
	Slows          int64            `json:"slows" label:"times reading slowly"`
	Stops          int64            `json:"stops" label:"times not reading"`
	Recovered      int64            `json:"recovered" label:"times everything came afterwards"`
	ResetUpgrade   int64            `json:"reset_in_upgrade" label:"reset in the upgrade"`
	ResetClear     int64            `json:"reset_clear" label:"reset, the server having no reason to end it"`
	ResetBehind    int64            `json:"reset_behind" label:"reset, the server having a reason to end it"`
	HalfFrames     int64            `json:"half_frames" label:"reset with half a frame sent"`
	Left           int64            `json:"left" label:"left by a close frame"`
	Cut            int64            `json:"cut" label:"cut by the server"`
	ClosedByServer map[string]int64 `json:"closed_by_server" label:"closed by the server"`
	NotUpgraded    map[string]int64 `json:"not_upgraded" label:"not upgraded"`
	NotDialed      map[string]int64 `json:"not_dialed" label:"not connected"`
	Deliveries     int64            `json:"deliveries" label:"deliveries"`
	Unread         int64            `json:"unread_connections" label:"connections that may have missed their last records"`
	UnreadMax      uint64           `json:"unread_max" label:"records that they missed at most"`
	InKernel       int64            `json:"in_kernel_connections" label:"connections whose buffers were thrown away"`
	InKernelMax    uint64           `json:"in_kernel_max" label:"records in them at most"`
}

// Memory is the memory of a soak: of the server's process, and of the buffers of all TCP sockets of the machine.
type Memory struct {
	Samples          int     `json:"samples" label:"samples, one a second"`
	RSSSecondQuarter int64   `json:"rss_second_quarter_bytes" label:"RSS, median of the second quarter" unit:"B"`
	RSSLastQuarter   int64   `json:"rss_last_quarter_bytes" label:"RSS, median of the last quarter" unit:"B"`
	RSSAllowed       int64   `json:"rss_allowed_bytes" label:"RSS, allowed in the last quarter" unit:"B"`
	RSSMax           int64   `json:"rss_max_bytes" label:"RSS, most" unit:"B"`
	SlopePerMinute   float64 `json:"rss_slope_bytes_per_minute" label:"RSS, slope after the first quarter" unit:"B a minute"`
	TCPSecondQuarter int64   `json:"tcp_second_quarter_bytes" label:"TCP memory, median of the second quarter" unit:"B"`
	TCPLastQuarter   int64   `json:"tcp_last_quarter_bytes" label:"TCP memory, median of the last quarter" unit:"B"`
	TCPMax           int64   `json:"tcp_max_bytes" label:"TCP memory, most" unit:"B"`
	Judged           bool    `json:"judged" label:"long enough to be judged"`
	Flat             bool    `json:"flat" label:"flat"`
}

// Account is one comparison: a figure of the server, and what the clients know of it, which is exact when Least is Most.
type Account struct {
	What   string `json:"what"`
	Server int64  `json:"server"`
	Least  int64  `json:"least"`
	Most   int64  `json:"most"`
}

// Matches says whether the server's figure is what the clients know.
func (a Account) Matches() bool { return a.Least <= a.Server && a.Server <= a.Most }

// String is the comparison in one line.
func (a Account) String() string {
	return fmt.Sprintf("%s: %s%s", a.What, group(strconv.FormatInt(a.Server, 10)), a.verdict())
}

// verdict is what the server's figure should be.
func (a Account) verdict() string {
	least, most := group(strconv.FormatInt(a.Least, 10)), group(strconv.FormatInt(a.Most, 10))
	switch {
	case a.Matches() && a.Least == a.Most:
		return "  exactly"
	case a.Matches():
		return "  of " + least + " to " + most
	case a.Least == a.Most:
		return "  NOT " + least
	default:
		return "  NOT in " + least + " to " + most
	}
}
