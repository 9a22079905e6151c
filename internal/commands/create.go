package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Plan is how the topic of commands is to be.
type Plan struct {
	Topic      string
	Partitions int32
	Replicas   int16 // -1: as many as the brokers' default.replication.factor.
	MinISR     int   // min.insync.replicas; 0: the brokers' default.
	Retention  time.Duration
}

// setting is one of a topic's settings.
type setting struct{ name, value string }

// settings are what the topic needs. The broker's clock decides about ages, so nodes need not agree on the time.
func (p *Plan) settings() []setting {
	list := []setting{
		{"cleanup.policy", "delete"},
		{"retention.ms", strconv.FormatInt(p.Retention.Milliseconds(), 10)},
		{"segment.ms", strconv.FormatInt(max(p.Retention, time.Minute).Milliseconds(), 10)},
		{"message.timestamp.type", "LogAppendTime"},
		{"max.message.bytes", strconv.Itoa(recordMax + 4096)},
	}
	if p.MinISR > 0 {
		list = append(list, setting{"min.insync.replicas", strconv.Itoa(p.MinISR)})
	}
	return list
}

// Outcome is what Create found or did.
type Outcome struct {
	Exists  bool     // The topic was there.
	Created bool     // It was made.
	Lines   []string // What was done or would be, and how a topic that exists differs, one sentence each.
	Differs bool     // A topic that exists is not as it has to be.
}

// Create makes the topic, unless it exists or dry is set. It changes no topic that exists, but says how it differs.
func Create(ctx context.Context, connect []kgo.Opt, p Plan, dry bool) (o Outcome, err error) {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.MetadataMinAge(lookInterval)}, connect...)...)
	if err != nil {
		return o, fmt.Errorf("create topic %s: %w", p.Topic, err)
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	found, err := look(ctx, admin, p.Topic)
	if err == nil {
		o.Exists = true
		return o, p.compare(ctx, admin, found, &o)
	} else if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return o, err
	}
	verb := "created"
	if dry {
		verb = "would create"
	}
	replicas := strconv.Itoa(int(p.Replicas))
	if p.Replicas < 0 {
		replicas = "default.replication.factor"
	}
	o.Lines = append(o.Lines, fmt.Sprintf("%s topic %s with %d partitions and %s replicas", verb, p.Topic, p.Partitions,
		replicas))
	configs := make(map[string]*string)
	for _, s := range p.settings() {
		configs[s.name] = &s.value
		o.Lines = append(o.Lines, fmt.Sprintf("  %s=%s", s.name, s.value))
	}
	responses, err := admin.ValidateCreateTopics(ctx, p.Partitions, p.Replicas, configs, p.Topic)
	if err == nil && !dry && responses.Error() == nil {
		responses, err = admin.CreateTopics(ctx, p.Partitions, p.Replicas, configs, p.Topic)
	}
	if err == nil {
		err = explain(responses[p.Topic])
	}
	if errors.Is(err, kerr.TopicAlreadyExists) {
		// It was made a moment ago, and the broker that was asked first had not heard of it.
		err = known(ctx, func() (err error) { found, err = look(ctx, admin, p.Topic); return err })
		if err == nil {
			o = Outcome{Exists: true}
			return o, p.compare(ctx, admin, found, &o)
		}
	}
	if err != nil {
		return Outcome{}, fmt.Errorf("create topic %s: %w", p.Topic, err)
	}
	o.Created = !dry
	return o, nil
}

// look returns what a broker knows about a topic.
func look(ctx context.Context, admin *kadm.Client, topic string) (kadm.TopicDetail, error) {
	topics, err := admin.ListTopics(ctx, topic)
	if err == nil {
		err = topics[topic].Err
	}
	if err != nil {
		return kadm.TopicDetail{}, fmt.Errorf("look for topic %s: %w", topic, err)
	}
	return topics[topic], nil
}

const (
	knownMax     = 10 * time.Second // How long a topic that exists may be unknown to some brokers.
	lookInterval = 50 * time.Millisecond
)

// known asks about a topic that exists, again while the broker that answers has not heard of it.
func known(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, knownMax)
	defer cancel()
	for {
		err := ask()
		if !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(lookInterval):
		}
	}
}

func explain(r kadm.CreateTopicResponse) error {
	if r.Err != nil && r.ErrMessage != "" {
		return fmt.Errorf("%w: %s", r.Err, r.ErrMessage)
	}
	return r.Err
}

// compare says how a topic that exists differs from p. More partitions or replicas are not a difference.
func (p *Plan) compare(ctx context.Context, admin *kadm.Client, found kadm.TopicDetail, o *Outcome) error {
	o.Lines = append(o.Lines, fmt.Sprintf("topic %s exists, with %d partitions; wsd does not change it", p.Topic,
		len(found.Partitions)))
	var of kadm.ResourceConfig
	err := known(ctx, func() error {
		configs, err := admin.DescribeTopicConfigs(ctx, p.Topic)
		if err != nil {
			return err
		}
		if of, err = configs.On(p.Topic, nil); err != nil {
			return err
		}
		return of.Err
	})
	if err != nil {
		return fmt.Errorf("read the settings of topic %s: %w", p.Topic, err)
	}
	for _, s := range p.settings() {
		if s.name == "segment.ms" {
			continue
		}
		i := slices.IndexFunc(of.Configs, func(c kadm.Config) bool { return c.Key == s.name })
		if i < 0 {
			continue
		}
		if has := of.Configs[i].MaybeValue(); !enough(s, has) {
			o.Differs = true
			o.Lines = append(o.Lines, fmt.Sprintf("  %s is %s, wsd would set %s", s.name, has, s.value))
		}
	}
	return nil
}

// enough reports whether a setting's value serves as well as the one that wsd would set.
func enough(want setting, has string) bool {
	if want.name == "cleanup.policy" || want.name == "message.timestamp.type" {
		return has == want.value
	}
	n, err := strconv.ParseInt(has, 10, 64)
	least, _ := strconv.ParseInt(want.value, 10, 64)
	return err == nil && (n >= least || n < 0)
}
