package source

import (
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// cleanup is how Kafka removes a topic's old records, according to the topic's cleanup.policy.
type cleanup uint32

const (
	cleanupUnknown cleanup = iota
	cleanupDelete          // Kafka removes records from the start of the log only, so a hole is a loss.
	cleanupCompact         // Kafka also removes records from the middle of the log.
)

// cleanupInterval is the time after which a topic's policy is asked for again.
const cleanupInterval = time.Minute

// askCleanup asks for the cleanup policies of those topics in resp that are new or were not asked for lately. An error
// is about the connection. A topic whose policy wsd may not read has cleanupUnknown.
func (s *Source) askCleanup(c *kafka.Conn, resp *kmsg.MetadataResponse) error {
	req := kmsg.NewDescribeConfigsRequest()
	highest := c.Version(req.Key())
	if highest < 0 {
		return nil
	}
	req.Version = min(highest, req.MaxVersion())
	asked := make(map[string]*topic)
	now := time.Now()
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		t := s.topicOf(rt)
		if t == nil || rt.ErrorCode != 0 || rt.TopicID == t.cleanupOf && now.Sub(t.cleanupAt) < cleanupInterval {
			continue
		}
		if rt.TopicID != t.cleanupOf {
			t.cleanup.Store(uint32(cleanupUnknown))
		}
		t.cleanupAt, t.cleanupOf = now, rt.TopicID
		asked[t.name] = t
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeTopic, t.name, []string{cleanupConfig}
		req.Resources = append(req.Resources, r)
	}
	if len(asked) == 0 {
		return nil
	}
	var configs kmsg.DescribeConfigsResponse
	if _, err := c.Request(&req, &configs, 0); err != nil {
		return kafka.Describe("ask "+c.Addr()+" for the topics' "+cleanupConfig, err)
	}
	for i := range configs.Resources {
		r := &configs.Resources[i]
		if t := asked[r.ResourceName]; t != nil {
			s.takeCleanup(t, r)
		}
	}
	return nil
}

// holesAreLosses reports whether records that are missing between two batches of the topic are lost. Compaction would
// explain a hole, and transactions leave none, since a broker sends markers and aborted records like any others. Any
// goroutine.
func (t *topic) holesAreLosses() bool { return cleanup(t.cleanup.Load()) == cleanupDelete }

const cleanupConfig = "cleanup.policy"

// takeCleanup sets a topic's policy from the broker's description of the topic.
func (s *Source) takeCleanup(t *topic, r *kmsg.DescribeConfigsResponseResource) {
	policy := cleanupUnknown
	for _, c := range r.Configs {
		if c.Name != cleanupConfig || c.Value == nil {
			continue
		}
		policy = cleanupDelete
		for _, word := range strings.Split(*c.Value, ",") {
			if strings.TrimSpace(word) == "compact" {
				policy = cleanupCompact
			}
		}
	}
	t.cleanup.Store(uint32(policy))
	if policy == cleanupUnknown && !t.cleanupNoted {
		t.cleanupNoted = true
		s.note(eventCleanupUnknown, t, "err", topicError(r.ErrorCode))
	}
}
