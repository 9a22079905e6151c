package server

import (
	"net"
	"strconv"

	"wsd/internal/config"
	"wsd/internal/doctor"
)

// DoctorOptions returns what a configuration says to the checks of a machine.
func DoctorOptions(cfg *config.Config) doctor.Options {
	return doctor.Options{
		PinDir: cfg.Steering.PinDir, Steering: cfg.Steering.Mode, Shards: cfg.ShardCount(),
		SourcesMax: cfg.Steering.Limits.SourcesMax, Port: port(cfg.Client.Listen),
		SendBuffer: int64(cfg.Client.KernelSendBuffer),
		Admission:  cfg.Admission.Mode, AdmissionAnswer: cfg.Admission.Answer, MemoryHigh: cfg.Admission.MemoryHigh,
		CgroupRoot: cfg.Admission.CgroupRoot,
		Pairs:      pairs(&cfg.Client.TLS), TicketKeys: cfg.Client.TLS.TicketKeys,
	}
}

// pairs returns the certificates that clients get.
func pairs(t *config.ClientTLS) (list []doctor.Pair) {
	files := t.Files()
	for i := range t.Certificates {
		list = append(list, doctor.Pair{Certificate: files[2*i], Key: files[2*i+1]})
	}
	return list
}

// port returns the port of the first address that clients connect to; 0 if it is not a number.
func port(listen []string) int {
	if len(listen) == 0 {
		return 0
	}
	_, text, err := net.SplitHostPort(listen[0])
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(text) // Without a number doctor takes the default.
	return n
}
