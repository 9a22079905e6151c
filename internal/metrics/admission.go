package metrics

import (
	"strconv"

	"wsd/internal/admission"
	"wsd/internal/shard"
)

// admission returns the metrics of admission. While it is off, all of them are 0 but the descriptors that are left: an
// alert asks for those.
func (o Options) admission() []family {
	s, status := new(admission.Stats), admission.Status{}
	if o.Admission != nil {
		s, status = o.Admission.Stats(), o.Admission.Status()
	}
	value := func(name, help string, v float64) family {
		return family{name: name, help: help, values: func(emit func(float64, ...string)) { emit(v) }}
	}
	return []family{
		single("wsd_cpu_checks_total", "Admission decisions: one for each sample, and one for each new client that a "+
			"shard decides about.", counter, func() uint64 { return s.Samples.Load() + o.admissionChecks() }),
		single("wsd_cpu_checks_cached_total", "Admission decisions made without reading the cgroup: those about new "+
			"clients, which use the last sample.", counter, o.admissionChecks),
		{
			name: "wsd_admission_refused_total", help: "New clients that the shard refused because wsd was " +
				"overloaded (reset, http), or would have refused but for the dry run (dry_run). The kernel counts in " +
				"wsd_steering_refused_total.", kind: counter, labels: []string{"shard", "answer"},
			values: func(emit func(float64, ...string)) {
				for i, s := range o.Shards {
					// Each reset is counted as a refusal first.
					reset := s.Closed[shard.ReasonAdmission].Load()
					emit(float64(reset), strconv.Itoa(i), "reset")
					emit(float64(s.AdmissionRefused.Load()-reset), strconv.Itoa(i), "http")
					emit(float64(s.AdmissionDryRun.Load()), strconv.Itoa(i), "dry_run")
				}
			},
		},
		{
			name: "wsd_admission_overloads_total", help: "Times that an overload began, by what was scarce.",
			kind: counter, labels: []string{"cause"},
			values: func(emit func(float64, ...string)) {
				emit(float64(s.CPU.Load()), "cpu")
				emit(float64(s.Memory.Load()), "memory")
			},
		},
		value("wsd_admission_refusing_ratio", "Part of the new clients that is refused because wsd is overloaded, or "+
			"would be but for the dry run.", float64(status.Level)/100),
		value("wsd_admission_cpu_ratio", "Part of the CPUs that wsd uses, averaged over admission.window.", status.CPU),
		value("wsd_admission_cpus", "CPUs that wsd may use, by affinity, cgroup quota and GOMAXPROCS.", status.CPUs),
		value("wsd_admission_loop_lag_seconds", "99th percentile of the time that an event waited for its shard's "+
			"loop, in the last tenth of a second.", status.Lag.Seconds()),
		value("wsd_admission_memory_ratio", "Part of the cgroup's memory limit that is in use; 0 without a limit.",
			status.Memory.Share()),
		value("wsd_admission_tcp_memory_ratio", "Part of net.ipv4.tcp_mem that the TCP sockets of the machine use; 0 "+
			"if the limit is not visible.", status.TCPMemory.Share()),
		value("wsd_admission_descriptors_left", "Connections that the limit on open files still leaves room for.",
			float64(o.Files.Left())),
	}
}

// admissionChecks returns how many new clients the shards have decided about.
func (o Options) admissionChecks() (n uint64) {
	for _, s := range o.Shards {
		n += s.AdmissionChecks.Load()
	}
	return n
}
