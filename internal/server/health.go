package server

import (
	"cmp"
	"fmt"
	"time"

	"wsd/internal/admin"
	"wsd/internal/epoll"
	"wsd/internal/listen"
	"wsd/internal/routing"
	"wsd/internal/source"
)

// Health returns the health of the server for /health. It does not block. Any goroutine may call it.
func (s *Server) Health() admin.Health {
	kafka := s.source.Status()
	st := s.steering.Status()
	h := admin.Health{
		Status: *s.stage.Load(), Version: s.build.Version, Commit: s.build.Commit,
		UptimeSeconds: time.Since(s.began).Seconds(),
		ClientListen:  s.plainAddresses(), ClientTLSListen: s.tlsAddresses(), Auth: s.cfg.Auth.Mode,
		Steering: admin.Steering{Mode: st.Mode, Reason: st.Reason, PinPath: st.PinPath},
		Shards:   make([]admin.Shard, 0, len(s.shards)),
		Kafka:    admin.Kafka{Ready: kafka.Ready, Error: kafka.Error},
	}
	for i, sh := range s.shards {
		stats := sh.Stats()
		h.Connections += stats.Connections.Load()
		if sh.AcceptingPaused() {
			h.Reasons = append(h.Reasons, fmt.Sprintf("shard %d is not accepting: it is out of file descriptors or "+
				"memory; raise the limit on open files (nofile)", i))
		}
		h.Shards = append(h.Shards, admin.Shard{
			ID: i, Connections: stats.Connections.Load(), Clients: stats.Clients.Load(),
			Subscriptions: stats.Subscriptions.Load(),
			Load:          s.steering.Slot(routing.ShardID(i)).Figures().Load(),
			LagBatches:    s.ring.Cursor(routing.ShardID(i)).Lag(), Deliveries: stats.Deliveries.Load(),
		})
	}
	h.Privileges = s.describePrivileges()
	h.Drain = admin.Drain(s.DrainState())
	s.describeSettings(&h)
	s.describeAdmission(&h)
	h.Reasons = append(h.Reasons, s.lateProblems(epoll.Monotonic())...)
	h.Kafka.Topics = topics(kafka)
	h.Reasons = append(h.Reasons, kafkaProblems(kafka)...)
	h.Reasons = append(h.Reasons, s.tls.problems(time.Now())...)
	if s.commands != nil {
		for _, problem := range []string{s.commands.Late(), s.commands.Clock()} {
			if problem != "" {
				h.Reasons = append(h.Reasons, problem)
			}
		}
	}
	if h.Status == admin.StatusOK && len(h.Reasons) > 0 {
		h.Status = admin.StatusDegraded
	}
	if why := s.draining(); why != "" && h.Status.Serving() {
		h.Status, h.Reasons = admin.StatusDraining, append([]string{why}, h.Reasons...)
	}
	if why := s.leaving(); why != "" {
		h.Reasons = append([]string{why}, h.Reasons...)
	}
	return h
}

// describeSettings adds the settings that operators have changed. A value that is out of range counts as a problem.
func (s *Server) describeSettings(h *admin.Health) {
	report, err := s.steering.Report()
	if err != nil {
		h.Reasons = append(h.Reasons, "cannot read the steering settings: "+err.Error())
		return
	}
	h.Steering.Changed, h.Steering.Ignored = report.Changed, report.Ignored
	h.Reasons = append(h.Reasons, report.Ignored...)
	h.Steering.Policy = policyInForce(s.steering.Status(), report.Values)
}

func topics(st source.Status) []admin.Topic {
	list := make([]admin.Topic, 0, len(st.Topics))
	for _, t := range st.Topics {
		topic := admin.Topic{Name: t.Name, State: string(t.State), Error: t.Error, Current: t.Current,
			Partitions: make([]admin.Partition, 0, len(t.Partitions))}
		for _, p := range t.Partitions {
			if p.Lag < 0 || topic.Lag < 0 { // As long as one is not known, the sum is not.
				topic.Lag = -1
			} else {
				topic.Lag += p.Lag
			}
			topic.Partitions = append(topic.Partitions, admin.Partition{
				Partition: p.Partition, Position: p.Position, HighWatermark: p.HighWatermark,
				LastStable: p.LastStable, Lag: p.Lag, Error: p.Error,
			})
		}
		list = append(list, topic)
	}
	return list
}

func kafkaProblems(st source.Status) (problems []string) {
	if st.Error != "" {
		problems = append(problems, "Kafka: "+st.Error)
	}
	for _, b := range st.Brokers {
		if b.Error != "" {
			problems = append(problems, fmt.Sprintf("Kafka broker %d at %s: %s", b.ID, b.Address, b.Error))
		}
	}
	for _, b := range st.Throttled {
		problems = append(problems, fmt.Sprintf("Kafka broker %s throttles wsd: it asked for a pause of %v; raise the "+
			"quotas of its user or client id", b.Address, b.Pause))
	}
	if st.LeftOut > 0 {
		problems = append(problems, fmt.Sprintf("%d topics that match kafka.topics are not read, because "+
			"kafka.topics_max is reached", st.LeftOut))
	}
	more := 0
	for _, t := range st.Topics {
		of := topicProblems(&t)
		if len(of) == 0 {
			continue
		}
		if more++; more <= topicsNamed {
			problems = append(problems, of...)
		}
	}
	if more -= topicsNamed; more > 0 {
		problems = append(problems, fmt.Sprintf("%d more topics have problems: see kafka.topics in /health", more))
	}
	return problems
}

// topicsNamed is how many topics the reasons name, because thousands may have the same problem.
const topicsNamed = 10

func topicProblems(t *source.TopicStatus) (problems []string) {
	problems = append(problems, partitionProblem(t, "stopped", func(p *source.PartitionStatus) string {
		if p.Stopped {
			return p.Error
		}
		return ""
	})...)
	if t.Behind != "" {
		problems = append(problems, fmt.Sprintf("topic %s is %s", t.Name, t.Behind))
	}
	switch t.State {
	case source.TopicMissing:
		if !t.Found {
			problems = append(problems, "topic "+t.Name+" does not exist: create it, or correct kafka.topics")
		}
	case source.TopicFailed:
		problems = append(problems, fmt.Sprintf("topic %s: %s", t.Name, t.Error))
	case source.TopicPresent:
		problems = append(problems, partitionProblem(t, "cannot read", func(p *source.PartitionStatus) string {
			switch {
			case p.Stopped:
				return ""
			case p.Leader < 0:
				return "no reachable leader"
			}
			return p.Error
		})...)
	case source.TopicUnknown:
	}
	return problems
}

// partitionProblem says how many partitions of a topic have a problem, and what the first one's is. It is one line for
// all, because there may be thousands. Problem returns "" for a partition without one.
func partitionProblem(t *source.TopicStatus, what string, problem func(*source.PartitionStatus) string) []string {
	n, first, why := 0, int32(0), ""
	for i := range t.Partitions {
		text := problem(&t.Partitions[i])
		if text == "" {
			continue
		}
		if n++; n == 1 {
			first, why = t.Partitions[i].Partition, text
		}
	}
	switch n {
	case 0:
		return nil
	case 1:
		return []string{fmt.Sprintf("topic %s, partition %d: %s", t.Name, first, why)}
	}
	return []string{fmt.Sprintf("topic %s: %s %d partitions; partition %d: %s", t.Name, what, n, first, why)}
}

// Ready reports whether new clients should be sent here, and if not, why. Any goroutine may call it.
func (s *Server) Ready() (ready bool, reasons []string) {
	if stage := *s.stage.Load(); stage != admin.StatusOK {
		reasons = append(reasons, cmp.Or(s.leaving(), "wsd is "+string(stage)))
	} else if why := s.draining(); why != "" {
		reasons = append(reasons, why)
	}
	if !s.source.Ready() {
		reasons = append(reasons, "the first position of some partitions is not known yet")
		reasons = append(reasons, kafkaProblems(s.source.Status())...)
	}
	if problem := s.refusesAll(); problem != "" {
		reasons = append(reasons, problem)
	}
	return len(reasons) == 0, reasons
}

// plainAddresses returns the addresses of client.listen.
func (s *Server) plainAddresses() []string { return addressTexts(s.groups[:len(s.cfg.Client.Listen)]) }

// tlsAddresses returns the addresses of client.tls_listen.
func (s *Server) tlsAddresses() []string { return addressTexts(s.groups[len(s.cfg.Client.Listen):]) }

func addressTexts(groups []listen.Group) []string {
	list := make([]string, 0, len(groups))
	for _, g := range groups {
		list = append(list, g.Address.String())
	}
	return list
}
