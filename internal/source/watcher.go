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
		c, settled, err = s.refresh(ctx, c)
		if kafka.HasEnded(err) && ctx.Err() == nil { // Nothing is wrong unless another connection fails as well.
			s.log.Debug("a Kafka broker has ended a connection, connecting again", "reason", err)
			s.stats.Reconnects.Add(1)
			c, settled, err = s.refresh(ctx, nil)
		}
		if ctx.Err() != nil {
			return
		}
		s.digest.flush()
		s.flushLosses()
		if err != nil {
			s.answeredLate = s.answeredLate || !s.everRefreshed()
			s.stats.MetadataErrors.Add(1)
			s.stats.FetchErrors[kafka.KindOf(err)].Add(1)
			s.stats.Reconnects.Add(1)
			s.setViewError(err.Error())
			s.metaProblem.Fail(s.log, "the Kafka cluster cannot be read, retrying", reason(err)...)
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
		s.metaProblem.OK(s.log, "the Kafka cluster can be read again")
		s.noteBehind()
		kafka.Sleep(ctx, refreshPause, nil)
		if settled {
			unsettled.Reset()
			kafka.Sleep(ctx, s.refreshAfter(time.Now()), s.kick)
		} else { // The cluster is choosing a leader. Nothing would notify us when it has one.
			kafka.Sleep(ctx, min(unsettled.Next(), s.o.MetadataInterval), s.kick)
		}
	}
}

// overdueAfter is how long after its time the answer to a fetch makes the watcher look more often whether the
// partitions have another leader. A frozen broker still has its connections.
const overdueAfter = time.Second

// refreshAfter returns when to refresh the metadata again: after MetadataInterval, or a quarter of it while the answer
// of some broker is overdue.
func (s *Source) refreshAfter(now time.Time) time.Duration {
	for _, f := range s.fetchers {
		if at := f.askedAt.Get(); !at.IsZero() && now.Sub(at) > s.o.FetchMaxWait+overdueAfter {
			return s.o.MetadataInterval / 4
		}
	}
	return s.o.MetadataInterval
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
	c.SetTimeout(s.metaTimeout)
	began := time.Now()
	number := s.refreshBegins()
	all, err := s.discover(c)
	if err != nil {
		s.failed(c, err)
		return nil, false, kafka.Describe("ask "+c.Addr()+" for all topics", err)
	}
	described := make(map[string]bool, len(all))
	for i := range all {
		described[*all[i].Topic] = true
	}
	req := s.metadataRequest(c)
	req.Topics = []kmsg.MetadataRequestTopic{} // Nil would ask for all topics.
	for _, t := range s.topics {
		if described[t.name] {
			continue
		}
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(t.name)
		req.Topics = append(req.Topics, rt)
	}
	// This asks even if no topic is left, for the brokers.
	var resp kmsg.MetadataResponse
	if _, err := c.Request(req, &resp, 0); err != nil {
		s.failed(c, err)
		err = kafka.Describe("ask "+c.Addr()+" for metadata", err)
		if s.o.SASL == nil && kafka.KindOf(err) == kafka.ErrorDisconnect && !s.everRefreshed() {
			err = fmt.Errorf("%w (does it expect a login? kafka.sasl.mechanism is empty)", err)
		}
		return nil, false, err
	}
	if resp.ErrorCode != 0 {
		s.failed(c, nil)
		return nil, false, kafka.Code(resp.ErrorCode)
	}
	if err := s.checkCluster(c, &resp); err != nil {
		s.failed(c, nil)
		return nil, false, err
	}
	resp.Topics = append(resp.Topics, all...)
	s.metaTimeout = min(max(metadataTimeout, 4*time.Since(began)), s.o.RequestTimeout)
	// What cannot be had holds back only what it is about. The response is applied in any case.
	cleanupErr := s.askCleanup(c, &resp)
	s.askCommitted(&resp)
	if settled, err = s.apply(&resp); err != nil || cleanupErr != nil {
		s.failed(c, cleanupErr)
		c = nil
	}
	if err != nil {
		return nil, false, err
	}
	s.refreshEnds(number)
	return c, settled && len(s.unanswered) == 0, cleanupErr
}

// metadataTimeout is how long the watcher waits for a broker, unless the cluster has been slower than that. It is short
// because a frozen broker must not hide where the leaders have moved: others know.
const metadataTimeout = 2 * time.Second

// failed closes a connection that is of no further use and has its broker asked last the next time. After a timeout the
// next answer may take twice as long.
func (s *Source) failed(c *kafka.Conn, err error) {
	c.Close()
	if err != nil && kafka.KindOf(err) == kafka.ErrorTimeout {
		s.metaTimeout = min(2*s.metaTimeout, s.o.RequestTimeout)
	}
	addr := c.Dialled()
	last := slices.DeleteFunc(slices.Clone(s.seeds), func(seed string) bool { return seed == addr })
	if len(last) < len(s.seeds) {
		s.setSeeds(append(last, addr))
	}
}

// checkCluster returns an error if a metadata response is of another cluster than the one that is read. Two clusters
// may have topics of the same name, and an address may be given to another one.
func (s *Source) checkCluster(c *kafka.Conn, resp *kmsg.MetadataResponse) error {
	switch id := resp.ClusterID; {
	case id == nil || *id == "" || *id == s.clusterID:
		return nil
	case s.clusterID == "":
		s.clusterID = *id
		return nil
	case s.o.ClusterID != "":
		return kafka.NewError(kafka.ErrorBroker, fmt.Errorf("broker %s belongs to the cluster %q, not to %q "+
			"(kafka.cluster_id): correct kafka.brokers or kafka.cluster_id", c.Dialled(), *id, s.clusterID))
	default:
		return kafka.NewError(kafka.ErrorBroker, fmt.Errorf("broker %s belongs to the cluster %q, but wsd has read %q "+
			"so far: correct kafka.brokers, or restart wsd to read the other cluster", c.Dialled(), *id, s.clusterID))
	}
}

// setSeeds replaces the addresses to ask, for any goroutine.
func (s *Source) setSeeds(seeds []string) {
	s.seeds = seeds
	s.view.mu.Lock()
	s.view.seeds = seeds
	s.view.mu.Unlock()
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
	s.setSeeds(seeds)
	s.addrs = addrs
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

// reason returns the attributes of a line of the log about an error of Kafka: its kind, and a remedy if there is one.
func reason(err error) []any {
	kind := kafka.KindOf(err)
	attrs := []any{"kind", kind, "err", err}
	if kind == kafka.ErrorConnect {
		attrs = append(attrs, "remedy", "this machine must reach the address: it is one of kafka.brokers, or what "+
			"a broker announces (its advertised.listeners)")
	}
	if kind == kafka.ErrorAuth {
		attrs = append(attrs, "remedy", "check kafka.sasl, kafka.tls, and what the brokers' ACLs allow this user")
	}
	return attrs
}
