package source

import (
	"errors"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// fetchSession makes the requests of a fetcher incremental (KIP-227): the broker remembers what was asked for, so that
// a request names only the partitions that have changed, and a response only those that have something new. With
// thousands of partitions, naming all of them in both costs far more than what they have to say. The fetcher's plan
// stays a request for everything; the session is what stands between that and the wire. It belongs to one connection,
// and the fetcher's goroutine owns it.
type fetchSession struct {
	min  int // A request for fewer partitions names them all.
	full time.Duration

	id, epoch   int32 // Zero: there is no session.
	version     int16
	began       time.Time
	incremental bool // The last request was, so the response leaves out what has nothing new.
	round       uint32
	told        map[partKey]told
	request     kmsg.FetchRequest
}

// told is what the broker was told about a partition.
type told struct {
	offset                int64
	leaderEpoch, maxBytes int32
	round                 uint32 // The last request that wanted the partition.
}

// sessionMin is the least number of partitions for a session, which takes one of the broker's places for sessions
// (max.incremental.fetch.session.cache.slots).
const sessionMin = 100

// sessionVersion is the first version of Fetch with sessions.
const sessionVersion = 7

// Errors that end a session. Everything is asked for again then.
const (
	sessionNotFound     = kafkago.FetchSessionIDNotFound
	sessionEpochInvalid = kafkago.InvalidFetchSessionEpoch
	sessionTopicID      = kafka.Code(106) // The session began without topic ids, or with them.
)

// next returns the request to send instead of all, which asks for the given number of partitions. Behind says that one
// of them has not been read to its end: the broker leaves out a partition that has something but sends nothing, so for
// its sake all are named now and then.
func (n *fetchSession) next(all *kmsg.FetchRequest, partitions int, behind bool, now time.Time) *kmsg.FetchRequest {
	n.incremental = false
	if partitions < n.min || all.Version < sessionVersion {
		if n.id == 0 {
			return all // Outside of sessions.
		}
		all.SessionID, all.SessionEpoch = n.id, -1 // This ends it.
		n.end()
		return all
	}
	if n.id != 0 && (n.version != all.Version || behind && now.Sub(n.began) > n.full) {
		all.SessionID, all.SessionEpoch = n.id, 0 // In its place.
		n.end()
	} else if n.id == 0 {
		all.SessionID, all.SessionEpoch = 0, 0
	}
	if n.told == nil {
		n.told = make(map[partKey]told, partitions)
	}
	n.round++
	if n.id == 0 {
		n.began, n.version = now, all.Version
		clear(n.told)
		for i := range all.Topics {
			n.tell(&all.Topics[i], nil)
		}
		return all
	}
	n.incremental = true
	n.delta(all)
	return &n.request
}

// delta makes n.request: what all asks for and the broker was not told, and what it was told and all does not ask for.
func (n *fetchSession) delta(all *kmsg.FetchRequest) {
	topics, wanted := n.request.Topics[:0], 0
	n.request = *all
	n.request.SessionID, n.request.SessionEpoch = n.id, n.epoch
	for i := range all.Topics {
		t := &all.Topics[i]
		wanted += len(t.Partitions)
		if len(topics) < cap(topics) { // Reuse the partition list of an earlier request.
			topics = topics[:len(topics)+1]
		} else {
			topics = append(topics, kmsg.FetchRequestTopic{})
		}
		d := &topics[len(topics)-1]
		d.Topic, d.TopicID, d.Partitions = t.Topic, t.TopicID, d.Partitions[:0]
		if n.tell(t, d); len(d.Partitions) == 0 {
			topics = topics[:len(topics)-1]
		}
	}
	n.request.Topics, n.request.ForgottenTopics = topics, nil
	if len(n.told) > wanted {
		n.forget()
	}
}

// tell notes what the broker is told about a topic's partitions, and adds to changed those of which it knows something
// else, unless changed is nil.
func (n *fetchSession) tell(t *kmsg.FetchRequestTopic, changed *kmsg.FetchRequestTopic) {
	for i := range t.Partitions {
		p := &t.Partitions[i]
		key := keyOf(t.TopicID, t.Topic, p.Partition, n.version)
		before, known := n.told[key]
		now := told{p.FetchOffset, p.CurrentLeaderEpoch, p.PartitionMaxBytes, n.round}
		n.told[key] = now
		before.round = n.round
		if changed != nil && (!known || before != now) {
			changed.Partitions = append(changed.Partitions, *p)
		}
	}
}

// forget adds to n.request what is no longer asked for.
func (n *fetchSession) forget() {
	at := make(map[partKey]int)
	for key, of := range n.told {
		if of.round == n.round {
			continue
		}
		delete(n.told, key)
		topic := partKey{topicID: key.topicID, topic: key.topic}
		i, ok := at[topic]
		if !ok {
			i = len(n.request.ForgottenTopics)
			at[topic] = i
			f := kmsg.NewFetchRequestForgottenTopic()
			f.Topic, f.TopicID = key.topic, key.topicID
			n.request.ForgottenTopics = append(n.request.ForgottenTopics, f)
		}
		f := &n.request.ForgottenTopics[i]
		f.Partitions = append(f.Partitions, key.id)
	}
}

// answered notes a response. Again reports that the broker does not know the session any longer, so that the next
// request, which may be made at once, asks for everything.
func (n *fetchSession) answered(resp *kmsg.FetchResponse) (again bool) {
	switch code := kafka.Code(resp.ErrorCode); {
	case code != 0:
		again = n.incremental && (errors.Is(code, sessionNotFound) || errors.Is(code, sessionEpochInvalid) ||
			errors.Is(code, sessionTopicID) || kafka.KindOfCode(code) == kafka.ErrorUnknownTopic)
		n.end()
	case n.incremental:
		if n.epoch++; n.epoch <= 0 { // It begins again at 1.
			n.epoch = 1
		}
	case len(n.told) > 0:
		n.id, n.epoch = resp.SessionID, 1 // The id is 0 if the broker has no place for another session.
	}
	return again
}

// end forgets the session.
func (n *fetchSession) end() {
	n.id, n.epoch = 0, 0
	clear(n.told)
}
