package server

import (
	"fmt"
	"log/slog"

	"wsd/internal/admin"
	"wsd/internal/admission"
	"wsd/internal/routing"
	"wsd/internal/shard"
	"wsd/internal/steering"
)

// The values of admission.mode and admission.answer.
const (
	admissionOff    = "off"
	admissionDryRun = "dry-run"
	answerHTTP      = "http"
)

// percent is the unit of the marks in the configuration.
const percent = 0.01

// shardAdmission returns what shards ask about new clients, or nil if admission is off.
func (s *Server) shardAdmission() *shard.Admission {
	c := s.cfg.Admission
	if c.Mode == admissionOff {
		return nil
	}
	answer := shard.AnswerReset
	if c.Answer == answerHTTP {
		answer = shard.AnswerHTTP
	}
	return shard.NewAdmission(answer, c.Mode == admissionDryRun, c.RetryAfter)
}

func (s *Server) admissionOptions() admission.Options {
	c := s.cfg.Admission
	loops := make([]admission.Loop, len(s.shards))
	for i, sh := range s.shards {
		slot := s.steering.Slot(routing.ShardID(i))
		loops[i] = admission.Loop{
			Turns: sh.Stats().Turns.Load, LongTurns: &sh.Stats().LongTurns, BusySince: slot.BusySince,
		}
	}
	return admission.Options{
		Marks: admission.Marks{
			CPUHigh: percent * float64(c.CPUHigh), CPULow: percent * float64(c.CPULow), LagMax: c.LagMax, Hold: c.Hold,
			Window: c.Window, MemoryHigh: percent * float64(c.MemoryHigh), MemoryLow: percent * float64(c.MemoryLow),
			Ramp: c.Ramp,
		},
		DryRun: c.Mode == admissionDryRun, CgroupRoot: c.CgroupRoot, Loops: loops,
		DescriptorsLeft: s.descriptors.Left, Logger: s.log,
		Shedder: &shedder{
			shards: s.admit, steering: s.steering, log: s.log,
			kernel: c.Mode != admissionDryRun && c.Answer != answerHTTP,
		},
	}
}

// shedder carries out what admission decides: in the kernel where that is possible, else in the shards. Only one of
// the two refuses, because each would refuse its part of what the other has let in.
type shedder struct {
	shards   *shard.Admission
	steering *steering.Steering
	kernel   bool // The kernel may refuse.
	failed   bool // The last try of the kernel has failed.
	log      *slog.Logger
}

// Shed implements admission.Shedder.
func (s *shedder) Shed(level int) {
	if s.kernel && s.steering.Status().Mode != steering.Hash {
		err := s.steering.SetAdmission(uint32(level)) //nolint:gosec // From 0 to 100.
		if err == nil {
			s.failed = false
			s.shards.Refuse(0)
			return
		}
		if !s.failed {
			s.failed = true
			s.log.Warn("the kernel cannot be told to refuse new clients, so the shards reset them", "error", err)
		}
	}
	s.shards.Refuse(level)
}

// describeAdmission adds the state of admission. Refusing clients counts as a problem.
func (s *Server) describeAdmission(h *admin.Health) {
	c := s.cfg.Admission
	h.Admission = admin.Admission{Mode: c.Mode, Answer: c.Answer, State: admin.AdmissionOff,
		DescriptorsLeft: s.descriptors.Left()}
	if s.admission == nil {
		return
	}
	st := s.admission.Status()
	a := &h.Admission
	a.State = admin.AdmissionAccepting
	if st.Level > 0 {
		a.State = admin.AdmissionRefusing
	}
	a.Percent, a.Reason = st.Level, st.Reason()
	a.CPU, a.CPUs, a.LoopLagSeconds, a.TurnSeconds = st.CPU, st.CPUs, st.Lag.Seconds(), st.Turn.Seconds()
	a.MemoryBytes, a.MemoryLimitBytes = st.Memory.Used, st.Memory.Max
	a.TCPMemoryBytes, a.TCPMemoryLimitBytes = st.TCPMemory.Used, st.TCPMemory.Max
	if problem := s.admissionProblem(st); problem != "" {
		h.Reasons = append(h.Reasons, problem)
	}
}

// admissionProblem says which part of new clients is refused and why, or is empty.
func (s *Server) admissionProblem(st admission.Status) string {
	if st.Level == 0 || s.cfg.Admission.Mode == admissionDryRun {
		return ""
	}
	return fmt.Sprintf("refusing %d %% of new clients: %s", st.Level, st.Reason())
}

// refusesAll says why all new clients are refused, or is empty.
func (s *Server) refusesAll() string {
	if s.admission == nil {
		return ""
	}
	if st := s.admission.Status(); st.Level == 100 {
		return s.admissionProblem(st)
	}
	return ""
}
