package source

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// The consumer group of Options.CommitGroup is only a name under which Kafka keeps positions. The source is not a
// member, so nobody distributes partitions. The broker that keeps a group is its coordinator.

// The highest versions that are used. Later ones ask for several groups at the same time, or name topics by id only.
const (
	coordinatorVersionMax = 3
	groupCommitVersionMax = 9
	groupFetchVersionMax  = 7
)

// coordinator is the connection to the broker that keeps the group. One goroutine uses it.
type coordinator struct {
	s *Source
	c *kafka.Conn
}

func (k *coordinator) close() {
	if k.c != nil {
		k.c.Close()
		k.c = nil
	}
}

// connect finds the coordinator and connects to it, unless there is a connection. The end of ctx closes the connection.
func (k *coordinator) connect(ctx context.Context) error {
	if k.c != nil {
		return nil
	}
	asked, err := k.s.dialer.DialFirst(ctx, k.s.seedsSeen())
	if err != nil {
		return err
	}
	defer asked.Close()
	req := kmsg.NewFindCoordinatorRequest()
	req.CoordinatorKey = k.s.o.CommitGroup
	req.Version = min(coordinatorVersionMax, asked.Version(req.Key()))
	var resp kmsg.FindCoordinatorResponse
	if _, err := asked.Request(&req, &resp, 0); err != nil {
		return kafka.Describe("ask "+asked.Addr()+" for the group's coordinator", err)
	}
	if resp.ErrorCode != 0 {
		return k.explain(resp.ErrorCode)
	}
	k.c, err = k.s.dialer.Dial(ctx, net.JoinHostPort(resp.Host, strconv.Itoa(int(resp.Port))))
	return err
}

// explain turns an error code of the coordinator into an error. It replaces words of Kafka that would mislead.
func (k *coordinator) explain(code int16) error {
	group, e := k.s.o.CommitGroup, kafka.Code(code)
	if e == kafka.UnknownMemberID || e == kafka.IllegalGeneration || e == kafka.RebalanceInProgress {
		return kafka.NewError(kafka.ErrorBroker, fmt.Errorf(
			"the group %q has consumers: set kafka.commit_group to a name that only wsd uses (%w)", group, e))
	}
	return fmt.Errorf("group %q: %w", group, e)
}

// committed is a position that the group has.
type committed struct {
	offset      int64
	leaderEpoch int32
	topicID     [16]byte // The topic's id in the life that the offset belongs to. Zero if that is not known.
}

// fetch returns the committed positions of the topics' partitions.
func (k *coordinator) fetch(topics map[string][]int32) (map[partKey]committed, error) {
	req := kmsg.NewOffsetFetchRequest()
	req.Version = min(groupFetchVersionMax, k.c.Version(req.Key()))
	req.Group = k.s.o.CommitGroup
	for name, parts := range topics {
		rt := kmsg.NewOffsetFetchRequestTopic()
		rt.Topic, rt.Partitions = name, parts
		req.Topics = append(req.Topics, rt)
	}
	var resp kmsg.OffsetFetchResponse
	if _, err := k.c.Request(&req, &resp, 0); err != nil {
		return nil, kafka.Describe("ask "+k.c.Addr()+" for the committed positions", err)
	}
	switch {
	case kafka.Code(resp.ErrorCode) == kafka.GroupIDNotFound:
		return nil, nil // Nothing was ever committed.
	case resp.ErrorCode != 0:
		return nil, k.explain(resp.ErrorCode)
	}
	found := make(map[partKey]committed)
	for i := range resp.Topics {
		for _, rp := range resp.Topics[i].Partitions {
			if rp.ErrorCode != 0 {
				return nil, k.explain(rp.ErrorCode)
			}
			if rp.Offset >= 0 {
				found[partKey{topic: resp.Topics[i].Topic, id: rp.Partition}] = committed{rp.Offset, rp.LeaderEpoch,
					topicIDOf(rp.Metadata)}
			}
		}
	}
	return found, nil
}

// commit commits positions to the group. Refused has the partitions whose position the broker did not take, and its
// reasons.
func (k *coordinator) commit(list []dueCommit) (refused map[*partition]error, err error) {
	req := kmsg.NewOffsetCommitRequest()
	req.Version = min(groupCommitVersionMax, k.c.Version(req.Key()))
	req.Group = k.s.o.CommitGroup
	topics := make(map[string]int)
	asked := make(map[partKey]*partition, len(list))
	for _, c := range list {
		name := c.p.topic.name
		asked[partKey{topic: name, id: c.p.id}] = c.p
		i, ok := topics[name]
		if !ok {
			i = len(req.Topics)
			topics[name] = i
			rt := kmsg.NewOffsetCommitRequestTopic()
			rt.Topic = name
			req.Topics = append(req.Topics, rt)
		}
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata = c.p.id, c.offset, c.leaderEpoch, metadataOf(c.p.topicID)
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, rp)
	}
	var resp kmsg.OffsetCommitResponse
	if _, err := k.c.Request(&req, &resp, 0); err != nil {
		return nil, kafka.Describe("commit at broker "+k.c.Addr(), err)
	}
	refused = make(map[*partition]error)
	for i := range resp.Topics {
		for _, rp := range resp.Topics[i].Partitions {
			if rp.ErrorCode != 0 {
				p := asked[partKey{topic: resp.Topics[i].Topic, id: rp.Partition}]
				refused[p] = fmt.Errorf("topic %s, partition %d: %w", resp.Topics[i].Topic, rp.Partition,
					k.explain(rp.ErrorCode))
			}
		}
	}
	return refused, nil
}

// A committed position carries the topic's id, in the metadata that Kafka keeps with it. If the topic was deleted and
// created again while wsd did not run, wsd can then tell that the offset belongs to the former life.
const metadataPrefix = "topic "

func metadataOf(id [16]byte) *string {
	if id == ([16]byte{}) {
		return kmsg.StringPtr("")
	}
	return kmsg.StringPtr(metadataPrefix + base64.RawURLEncoding.EncodeToString(id[:]))
}

func topicIDOf(metadata *string) (id [16]byte) {
	if metadata == nil || len(*metadata) <= len(metadataPrefix) || (*metadata)[:len(metadataPrefix)] != metadataPrefix {
		return id
	}
	b, err := base64.RawURLEncoding.DecodeString((*metadata)[len(metadataPrefix):])
	if err == nil && len(b) == len(id) {
		copy(id[:], b)
	}
	return id
}

var errGroupEmpty = errors.New(
	"kafka.start is committed, but kafka.commit_group is empty: name the group that has the positions")

// askCommitted asks for the committed positions of those topics in resp that are new, if the source starts with
// StartCommitted. After an error nothing of them is read: starting elsewhere would lose or repeat records.
func (s *Source) askCommitted(ctx context.Context, resp *kmsg.MetadataResponse) error {
	s.committed = nil
	if s.o.Start.Mode != StartCommitted {
		return nil
	}
	topics := make(map[string][]int32)
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		if rt.Topic == nil || rt.ErrorCode != 0 {
			continue
		}
		if t := s.topicNamed(*rt.Topic); t == nil || t.seen || len(t.retired) > 0 {
			continue
		}
		for _, rp := range rt.Partitions {
			topics[*rt.Topic] = append(topics[*rt.Topic], rp.Partition)
		}
	}
	if len(topics) == 0 {
		return nil
	}
	k := coordinator{s: s}
	defer k.close()
	if err := k.connect(ctx); err != nil {
		return fmt.Errorf("kafka.start committed: %w", err)
	}
	found, err := k.fetch(topics)
	if err != nil {
		return fmt.Errorf("kafka.start committed: %w", err)
	}
	s.committed = found
	return nil
}

// resume returns where a partition of a new topic begins, with StartCommitted: at a committed position if its offset is
// not -1, else where from says. A partition without a position in a topic that has others appeared while wsd did not
// run, and so did a topic with another id: both begin at their beginning.
func (s *Source) resume(t *topic, id int32, rt *kmsg.MetadataResponseTopic) (position committed, from Start) {
	known := false
	for i := range rt.Partitions {
		c, ok := s.committed[partKey{topic: t.name, id: rt.Partitions[i].Partition}]
		if !ok {
			continue
		}
		if none := ([16]byte{}); c.topicID != rt.TopicID && c.topicID != none && rt.TopicID != none {
			if !known {
				s.log.Warn("a topic was created again after its positions were committed: reading from its beginning",
					"topic", t.name)
			}
			return committed{offset: -1}, Start{Mode: StartEarliest}
		}
		known = true
	}
	if c, ok := s.committed[partKey{topic: t.name, id: id}]; ok {
		return c, Start{}
	}
	if known || t.missed {
		return committed{offset: -1}, Start{Mode: StartEarliest}
	}
	return committed{offset: -1}, Start{Mode: StartLatest}
}
