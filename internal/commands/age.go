package commands

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// skewMax is by how much the clocks of this node and of Kafka may differ before that is a problem.
const skewMax = 10 * time.Second

// byBroker reports whether a record's time is that of a broker (message.timestamp.type=LogAppendTime), and not that of
// whoever wrote it.
func byBroker(r *kgo.Record) bool { return r.Attrs.TimestampType() == 1 }

// ageOf returns how old a record is. What was written since a recent look at the topic is no older than that, whatever
// the clocks say. Of anything else the record's time decides, less what is known of the difference of the clocks.
func (t *Topic) ageOf(r *kgo.Record, now time.Time) time.Duration {
	age := now.Sub(r.Timestamp) // By the clocks of two machines.
	most, known := t.ages.most(r.Partition, r.Offset, now)
	switch {
	case !byBroker(r):
		t.timesOnce.Do(func() {
			t.o.Logger.Warn("records of commands.topic have the times of those who wrote them, and their clocks may "+
				"differ", "topic", t.o.Topic, "remedy", "set message.timestamp.type=LogAppendTime for the topic; wsd "+
				"topics create shows all that it needs")
		})
	case known:
		t.noteSkew(age, most)
	default:
		age -= time.Duration(t.skew.Load())
	}
	if known {
		return min(age, most)
	}
	return age
}

// noteSkew notes the difference of the clocks by a record that is at most so old, and would be of an age by the clocks.
func (t *Topic) noteSkew(age, most time.Duration) {
	skew := time.Duration(0)
	switch {
	case age > most:
		skew = age - most
	case age < 0:
		skew = age
	}
	t.skew.Store(int64(skew))
	t.stats.Skew.Store(int64(skew))
	if problem := t.Clock(); problem != "" {
		t.problem.clock.Fail(t.o.Logger, problem)
	} else {
		t.problem.clock.OK(t.o.Logger, "the clocks of this machine and of the Kafka brokers agree")
	}
}

// Clock returns how the clock of this machine differs from that of the brokers, as of the last command; "" if it does
// not by more than seconds. Any goroutine may call it.
func (t *Topic) Clock() string {
	skew, how := time.Duration(t.skew.Load()), "ahead of"
	if skew < 0 {
		skew, how = -skew, "behind"
	}
	if skew < skewMax {
		return ""
	}
	return fmt.Sprintf("the clock of this machine is %v or more %s that of the Kafka brokers: synchronize it, by "+
		"chrony or systemd-timesyncd; it decides about commands that were written while this machine could not read "+
		"%s", skew.Round(time.Second), how, t.o.Topic)
}
