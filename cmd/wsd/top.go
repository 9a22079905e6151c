package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wsd/internal/command"
	"wsd/internal/control"
)

// topCmd talks to a running wsd over its control socket.
type topCmd struct {
	options
	Interval time.Duration `default:"2s" help:"Time between two updates, at least 500ms."`
	Count    int           `help:"Number of updates. 0: until SIGINT or SIGTERM."`
	JSON     bool          `help:"Print each update as a line of JSON."`
}

// topShortest limits the load that looking through all clients causes in the wsd.
const topShortest = 500 * time.Millisecond

// Help explains the columns.
func (topCmd) Help() string {
	return "Shows the shards by deliveries, the channels with the most deliveries, and the clients for which most " +
		"bytes wait, as many as the terminal has lines. If the output is not a terminal, each update is a line."
}

// Run prints updates until a signal arrives or --count is reached.
func (c *topCmd) Run(e env) error {
	switch {
	case c.Interval < topShortest:
		return command.UsageError{Err: fmt.Errorf("--interval %v must be at least %v", c.Interval, topShortest)}
	case c.Count < 0:
		return command.UsageError{Err: fmt.Errorf("--count %d must be at least 0", c.Count)}
	}
	path, err := c.socket(e)
	if err != nil {
		return err
	}
	ctx, stop := signals(e.stderr)
	defer stop()
	if err = c.follow(ctx, e, path); ctx.Err() != nil { // A signal is the normal end.
		return nil
	}
	return err
}

// follow prints updates. Once wsd has answered, it may stop and come back: updates for which it does not answer count,
// and the error is that of the last one.
func (c *topCmd) follow(ctx context.Context, e env, path string) error {
	last, err := readTop(ctx, path)
	if err != nil {
		return err
	}
	shown := topUpdate{}
	resized := make(chan os.Signal, 1)
	if e.screen {
		signal.Notify(resized, unix.SIGWINCH)
		defer signal.Stop(resized)
	}
	redraw := func(problem error) error {
		lines, columns := terminalSize()
		return drawTop(e.stdout, shown, problem, lines, columns)
	}
	if !e.screen && !c.JSON {
		fmt.Fprintf(e.stdout, "%-8s %-9s %9s %12s %6s %10s %8s %8s\n", "TIME", "STATUS", "CLIENTS", "DELIVERIES/S",
			"CPU", "MEMORY", "LAG", "WAITING")
	}
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	var problem error // Why there was no answer to the last question.
	type answer struct {
		reading topReading
		err     error
	}
	// A busy wsd takes seconds to answer. The terminal may be resized meanwhile.
	answers, asking := make(chan answer, 1), false
	for n := 0; c.Count == 0 || n < c.Count; {
		var a answer
		select {
		case <-tick.C:
			if !asking {
				asking = true
				go func() {
					now, err := readTop(ctx, path)
					answers <- answer{now, err}
				}()
			}
			continue
		case a = <-answers:
			asking = false
		case <-resized:
			if shown.Version != "" {
				if err = redraw(problem); err != nil {
					return err
				}
			}
			continue
		case <-ctx.Done():
			return ctx.Err()
		}
		n++
		now, asked := a.reading, a.err
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if asked == nil {
			update := topOf(last, now)
			if now.health.Short { // The next rates span this update as well.
				update.keep(shown)
			} else {
				last = now
			}
			shown = update
		}
		switch {
		case e.screen && !c.JSON:
			err = redraw(asked)
		case asked != nil && problem == nil:
			fmt.Fprintf(e.stderr, "%s no update: %v; trying again\n", time.Now().Format(time.TimeOnly), asked)
		case asked != nil:
		case c.JSON:
			err = json.NewEncoder(e.stdout).Encode(shown)
		default:
			_, err = fmt.Fprintf(e.stdout, "%-8s %-9s %9d %12.0f %5.0f%% %10s %8d %8d\n",
				now.read.Format(time.TimeOnly), shown.Status, shown.Clients, shown.DeliveriesRate, shown.CPU*100,
				mebibytes(shown.MemoryBytes), shown.Lag, shown.WaitingClients)
		}
		if problem = asked; err != nil {
			return err
		}
	}
	return problem
}

// topReading is what wsd said at a time.
type topReading struct {
	read     time.Time
	health   topHealth
	channels control.ChannelsState
	clients  control.ClientsState
}

// topHealth is what top needs of /health.
type topHealth struct {
	Status        string
	Reasons       []string
	Version       string
	UptimeSeconds float64 `json:"uptime_seconds"`
	Short         bool
	Steering      struct{ Mode, Policy string }
	Admission     admissionState
	Shards        []topHealthShard
	Kafka         struct {
		Error  string
		Topics []struct{ Lag int64 }
	}
	Process struct {
		PID           int
		CPUs          int
		CPUSeconds    float64 `json:"cpu_seconds"`
		ResidentBytes uint64  `json:"resident_bytes"`
	}
}

type topHealthShard struct {
	ID            int
	Clients       int64
	Subscriptions int64
	Load          int64
	LagBatches    uint64 `json:"lag_batches"`
	Deliveries    uint64
}

// readTop asks the wsd at the socket for all that top shows.
func readTop(ctx context.Context, path string) (r topReading, err error) {
	body, _, err := control.Health(ctx, path)
	if err != nil {
		return r, err
	}
	r.read = time.Now()
	if err = json.Unmarshal(body, &r.health); err != nil {
		return r, fmt.Errorf("read the response of wsd: %w", err)
	}
	r.channels, err = control.Channels(ctx, path, control.ChannelsQuery{ByTraffic: true, Max: control.SurveyMax})
	if err != nil {
		return r, steerError(err)
	}
	r.clients, err = control.Clients(ctx, path, control.ClientsQuery{Waiting: true, Max: topClients})
	return r, steerError(err)
}

// keep takes from the update before what a short answer of wsd leaves out.
func (u *topUpdate) keep(last topUpdate) {
	u.Shards, u.Clients, u.Subscriptions = last.Shards, last.Clients, last.Subscriptions
	u.DeliveriesRate, u.Lag = last.DeliveriesRate, last.Lag
}

// topClients and topChannels bound what an update has of them.
const topClients, topChannels = 50, 50

// topUpdate is one update, as --json prints it.
type topUpdate struct {
	Time            time.Time             `json:"time"`
	Status          string                `json:"status"`
	Reasons         []string              `json:"reasons"`
	Version         string                `json:"version"`
	UptimeSeconds   float64               `json:"uptime_seconds"`
	Steering        string                `json:"steering"` // Mode and policy.
	Admission       string                `json:"admission"`
	Clients         int64                 `json:"clients"`
	Subscriptions   int64                 `json:"subscriptions"`
	DeliveriesRate  float64               `json:"deliveries_per_second"`
	CPU             float64               `json:"cpu"` // CPUs in use.
	CPUs            int                   `json:"cpus"`
	MemoryBytes     uint64                `json:"memory_bytes"`
	Lag             int64                 `json:"lag"` // Offsets that are not read yet, of all topics.
	KafkaError      string                `json:"kafka_error,omitempty"`
	Shards          []topShard            `json:"shards"`   // Those that deliver most first.
	Channels        []topChannel          `json:"channels"` // Those with the most deliveries a second first.
	ChannelsTotal   int                   `json:"channels_total"`
	WaitingClients  int                   `json:"waiting_clients"` // Clients for which bytes wait.
	Waiting         []control.ClientState `json:"waiting"`         // Those for which most waits first.
	control.Unheard                       // The shards that said nothing of channels or of clients.
}

type topShard struct {
	ID             int     `json:"id"`
	Clients        int64   `json:"clients"`
	Load           int64   `json:"load"`
	Subscriptions  int64   `json:"subscriptions"`
	DeliveriesRate float64 `json:"deliveries_per_second"`
	LagBatches     uint64  `json:"lag_batches"`
}

type topChannel struct {
	Channel        string  `json:"channel"`
	Subscribers    int     `json:"subscribers"`
	RecordsRate    float64 `json:"records_per_second"`
	DeliveriesRate float64 `json:"deliveries_per_second"`
}

// topOf compares two readings.
func topOf(last, now topReading) topUpdate {
	h, seconds := now.health, now.read.Sub(last.read).Seconds()
	restarted := h.Process.PID != last.health.Process.PID || h.UptimeSeconds < last.health.UptimeSeconds
	rate := func(now, before uint64) float64 {
		switch {
		case restarted:
			before = 0
		case now < before: // The last subscribers on a shard have left, and its part of the counts with them.
			return 0
		}
		return math.Round(float64(now-before)/seconds*10) / 10
	}
	u := topUpdate{
		Time: now.read, Status: h.Status, Reasons: h.Reasons, Version: h.Version, UptimeSeconds: h.UptimeSeconds,
		Steering: h.Steering.Mode + ", " + h.Steering.Policy, Admission: h.Admission.String(),
		CPUs: h.Process.CPUs, MemoryBytes: h.Process.ResidentBytes, KafkaError: h.Kafka.Error,
		Shards: []topShard{}, Channels: []topChannel{}, ChannelsTotal: now.channels.Total,
		WaitingClients: now.clients.Total, Waiting: now.clients.Clients,
		Unheard: now.channels.Or(now.clients.Unheard),
	}
	if !restarted {
		u.CPU = math.Round((h.Process.CPUSeconds-last.health.Process.CPUSeconds)/seconds*1000) / 1000
	}
	for _, topic := range h.Kafka.Topics {
		u.Lag += max(0, topic.Lag)
	}
	delivered := make(map[int]uint64)
	for _, s := range last.health.Shards {
		delivered[s.ID] = s.Deliveries
	}
	for _, s := range h.Shards {
		was, known := delivered[s.ID]
		if !known { // The reading before was short.
			was = s.Deliveries
		}
		shard := topShard{ID: s.ID, Clients: s.Clients, Load: s.Load, Subscriptions: s.Subscriptions,
			LagBatches: s.LagBatches, DeliveriesRate: rate(s.Deliveries, was)}
		u.Shards = append(u.Shards, shard)
		u.Clients += s.Clients
		u.Subscriptions += s.Subscriptions
		u.DeliveriesRate += shard.DeliveriesRate
	}
	slices.SortStableFunc(u.Shards, func(a, b topShard) int { return cmp.Compare(b.DeliveriesRate, a.DeliveriesRate) })
	before := make(map[string]control.ChannelState)
	for _, c := range last.channels.Channels {
		before[c.Channel] = c
	}
	for _, c := range now.channels.Channels {
		was, known := before[c.Channel]
		if !known { // Its counts are of all the time before.
			was = c
		}
		u.Channels = append(u.Channels, topChannel{c.Channel, c.Subscribers, rate(c.Records, was.Records),
			rate(c.Deliveries, was.Deliveries)})
	}
	slices.SortStableFunc(u.Channels, func(a, b topChannel) int {
		return cmp.Or(cmp.Compare(b.DeliveriesRate, a.DeliveriesRate), cmp.Compare(b.Subscribers, a.Subscribers))
	})
	u.Channels = u.Channels[:min(len(u.Channels), topChannels)]
	return u
}
