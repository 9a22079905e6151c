package host

import "strings"

// StatusField returns a field of a text like /proc/self/status, without the white space around it. ok is false if the
// text lacks the field.
func StatusField(status, field string) (value string, ok bool) {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

// InUserNamespace reports whether a text like /proc/self/uid_map maps user ids, as every user namespace does but the
// initial one. The kernel grants bpf(2) to capabilities of the initial user namespace only. An empty text does not
// count.
func InUserNamespace(uidMap string) bool {
	ids := strings.Fields(uidMap)
	return len(ids) > 0 && strings.Join(ids, " ") != "0 0 4294967295"
}
