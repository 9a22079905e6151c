package doctor

// clock warns of a clock that nothing keeps right. When tokens expire goes by it, and so do commands of other machines
// that wsd has missed.
func (in *inspector) clock() Result {
	r := Result{Check: "clock", Status: Warn, Wanted: "synchronized", Remedy: "run chrony, systemd-timesyncd or " +
		"another NTP client: by a wrong clock tokens expire at the wrong time, and commands.age_max drops what is " +
		"not old"}
	switch synced, err := in.System.Synchronized(); {
	case refused(err): // As by ProtectClock= of the unit: from outside it is seen.
		r.Status, r.Found = OK, unreadable(err)
	case err != nil:
		r.Found = unreadable(err)
	case synced:
		r.Status, r.Found = OK, "synchronized"
	default:
		r.Found = "not synchronized, as far as the kernel knows"
	}
	return r
}
