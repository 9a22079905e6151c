package source

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// refreshPause is the shortest time between two refreshes of the metadata, however often somebody asks for one.
const refreshPause = 10 * time.Millisecond

// watch refreshes the cluster's metadata at every interval, and immediately if somebody asks. It owns the topics, the
// assignment of partitions and the fetchers.
func (s *Source) watch(ctx context.Context) {
	var c *kafka.Conn
	defer func() {
		if c != nil {
			c.Close()
		}
		for _, f := range s.fetchers {
			f.cancel()
		}
	}()
	tries := kafka.Backoff{Min: s.o.BackoffMin, Max: s.o.BackoffMax}
	unsettled := tries
	for {
		var err error
		var settled bool
		if c, settled, err = s.refresh(ctx, c); ctx.Err() != nil {
			return
		}
		if err != nil {
			s.answeredLate = s.answeredLate || !s.everRefreshed()
			s.stats.MetadataErrors.Add(1)
			s.stats.FetchErrors[kafka.KindOf(err)].Add(1)
			s.stats.Reconnects.Add(1)
			s.setViewError(err.Error())
			s.metaProblem.fail(s.log, "the Kafka cluster cannot be read, retrying", "kind", kafka.KindOf(err), "err",
				err)
			kafka.Sleep(ctx, tries.Next(), nil)
			continue
		}
		tries.Reset()
		s.stats.MetadataRefreshes.Add(1)
		if err := s.noteUnanswered(); err != nil {
			s.setViewError(err.Error())
		} else {
			s.setViewError("")
		}
		s.metaProblem.ok(s.log, "the Kafka cluster can be read again")
		s.flushLosses()
		kafka.Sleep(ctx, refreshPause, nil)
		if settled {
			unsettled.Reset()
			kafka.Sleep(ctx, s.o.MetadataInterval, s.kick)
		} else { // The cluster is choosing a leader. Nothing would notify us when it has one.
			kafka.Sleep(ctx, min(unsettled.Next(), s.o.MetadataInterval), s.kick)
		}
	}
}

func (s *Source) setViewError(text string) {
	s.view.mu.Lock()
	s.view.err = text
	s.view.mu.Unlock()
}

// refresh asks for the metadata over c, or over a new connection if c is nil, and applies the response. It returns the
// connection to use the next time, which may be nil after an error. Settled reports that every partition has a leader.
func (s *Source) refresh(ctx context.Context, c *kafka.Conn) (_ *kafka.Conn, settled bool, err error) {
	if c == nil {
		if c, err = s.dialAny(ctx); err != nil {
			return nil, false, err
		}
	}
	if err := s.discover(c); err != nil {
		c.Close()
		return nil, false, kafka.Describe("ask "+c.Addr()+" for all topics", err)
	}
	req := s.metadataRequest(c)
	req.Topics = []kmsg.MetadataRequestTopic{} // Nil would ask for all topics.
	for _, t := range s.topics {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(t.name)
		req.Topics = append(req.Topics, rt)
	}
	number := s.refreshBegins()
	var resp kmsg.MetadataResponse
	if _, err := c.Request(req, &resp, 0); err != nil {
		c.Close()
		err = kafka.Describe("ask "+c.Addr()+" for metadata", err)
		if s.o.SASL == nil && kafka.KindOf(err) == kafka.ErrorDisconnect && !s.everRefreshed() {
			err = fmt.Errorf("%w (does it expect a login? kafka.sasl.mechanism is empty)", err)
		}
		return nil, false, err
	}
	if resp.ErrorCode != 0 {
		c.Close()
		return nil, false, kafka.Code(resp.ErrorCode)
	}
	// What cannot be had holds back only what it is about. The response is applied in any case.
	cleanupErr := s.askCleanup(c, &resp)
	s.askCommitted(&resp)
	if settled, err = s.apply(&resp); err != nil || cleanupErr != nil {
		c.Close()
		c = nil
	}
	if err != nil {
		return nil, false, err
	}
	s.refreshEnds(number)
	return c, settled && len(s.unanswered) == 0, cleanupErr
}

// metadataVersionMax is the highest version of Metadata that is used.
const metadataVersionMax = 12

// metadataRequest returns a request for all topics, in a version that the broker takes.
func (s *Source) metadataRequest(c *kafka.Conn) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = min(metadataVersionMax, c.Version(req.Key()))
	req.AllowAutoTopicCreation = false
	return req
}

// dialAny connects to the first broker that can be reached.
func (s *Source) dialAny(ctx context.Context) (*kafka.Conn, error) {
	c, err := s.dialer.DialFirst(ctx, s.seeds)
	// Begin with another broker the next time, in case the first ones never come back.
	if n := min(kafka.DialFirstMax, len(s.seeds)-1); err != nil && n > 0 {
		s.seeds = append(slices.Clone(s.seeds[n:]), s.seeds[:n]...)
	}
	return c, err
}

// seedsSeen returns the addresses to ask: first the brokers that were seen last, then the configured ones. Any
// goroutine may call it.
func (s *Source) seedsSeen() []string {
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	return s.view.seeds
}

// brokerAddrs returns the addresses of the brokers in a metadata response, and remembers them for the next refresh.
func (s *Source) brokerAddrs(resp *kmsg.MetadataResponse) map[int32]string {
	addrs := make(map[int32]string, len(resp.Brokers))
	seeds := make([]string, 0, len(resp.Brokers)+len(s.o.Brokers))
	for i := range resp.Brokers {
		b := &resp.Brokers[i]
		addr := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		addrs[b.NodeID] = addr
		if len(seeds) < seedsKept {
			seeds = append(seeds, addr)
		}
	}
	for _, b := range s.o.Brokers {
		if !slices.Contains(seeds, b) {
			seeds = append(seeds, b)
		}
	}
	s.seeds = seeds
	s.view.mu.Lock()
	s.view.seeds = seeds
	s.view.mu.Unlock()
	return addrs
}

// seedsKept is how many of a cluster's brokers are remembered.
const seedsKept = 8

// topicError describes an error code of a topic. It returns "" for 0.
func topicError(code int16) string {
	if code == 0 {
		return ""
	}
	return fmt.Sprint(kafka.Code(code))
}
