package host

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is the first two numbers of a kernel's release.
type Version struct{ Major, Minor int }

// SteeringMin is the oldest kernel with the attach type of the steering program (BPF_SK_REUSEPORT_SELECT_OR_MIGRATE).
var SteeringMin = Version{5, 14}

// Before reports whether v is older than w.
func (v Version) Before(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// String returns the version as MAJOR.MINOR.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// ParseRelease reads the version at the start of a release such as 6.1.0-18-amd64. ok is false if there is none.
func ParseRelease(release string) (v Version, ok bool) {
	major, rest, found := strings.Cut(release, ".")
	if !found {
		return Version{}, false
	}
	end := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
	if end < 0 {
		end = len(rest)
	}
	var errMajor, errMinor error
	v.Major, errMajor = strconv.Atoi(major)
	v.Minor, errMinor = strconv.Atoi(rest[:end])
	if errMajor != nil || errMinor != nil {
		return Version{}, false
	}
	return v, true
}
