package source

import (
	"context"
	"encoding/base64"
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

// fetch returns the committed positions of the topics' partitions. Refused has the topics whose positions the broker
// does not send, and its reasons.
func (k *coordinator) fetch(
	topics map[string][]int32,
) (found map[partKey]committed, refused map[string]error, err error) {
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
		return nil, nil, kafka.Describe("ask "+k.c.Addr()+" for the committed positions", err)
	}
	switch {
	case kafka.Code(resp.ErrorCode) == kafka.GroupIDNotFound:
		return nil, nil, nil // Nothing was ever committed.
	case resp.ErrorCode != 0:
		return nil, nil, k.explain(resp.ErrorCode)
	}
	found, refused = make(map[partKey]committed), make(map[string]error)
	for i := range resp.Topics {
		for _, rp := range resp.Topics[i].Partitions {
			if rp.ErrorCode != 0 {
				refused[resp.Topics[i].Topic] = k.explain(rp.ErrorCode)
			} else if rp.Offset >= 0 {
				found[partKey{topic: resp.Topics[i].Topic, id: rp.Partition}] = committed{rp.Offset, rp.LeaderEpoch,
					topicIDOf(rp.Metadata)}
			}
		}
	}
	return found, refused, nil
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
