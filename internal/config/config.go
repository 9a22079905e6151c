package config

import "time"

// Config is every option of wsd.
type Config struct {
	Client    Client    `key:"client"`
	Admin     Admin     `key:"admin"`
	Control   Control   `key:"control"`
	Shards    int       `key:"shards" def:"0" help:"Event loops; 0: as many as CPUs that wsd may use (GOMAXPROCS). At most 256."`
	Kafka     Kafka     `key:"kafka"`
	Routes    []Route   `key:"routes" help:"Where records go: rules of which the first that fits a record decides (docs/routing.md). In a flag or variable [TOPIC=]CHANNEL, a template with {topic}, {key}, {partition}, {header.NAME} and {json.FIELD}. Default: {topic}."`
	Overrides Overrides `key:"overrides"`
	Steering  Steering  `key:"steering"`
	Bus       Bus       `key:"bus"`
	Recovery  Recovery  `key:"recovery"`
	Shutdown  Shutdown  `key:"shutdown"`
	Log       Log       `key:"log"`
	Debug     Debug     `key:"debug"`
	Dev       Dev       `key:"dev"`
}

// Client is what clients meet.
type Client struct {
	Listen           []string      `key:"listen" def:":8000" help:"Addresses that clients connect to, host:port; an empty host is every address."`
	KernelSendBuffer Bytes         `key:"kernel_send_buffer" def:"32KiB" help:"SO_SNDBUF of a connection; the kernel doubles it and limits it to net.core.wmem_max. 0: the kernel lets it grow to 4 MB for a client that does not read."`
	DeferAccept      bool          `key:"defer_accept" def:"true" help:"Take a client when its request is there, which saves a quarter of the CPU time of a connection (TCP_DEFER_ACCEPT). One that says nothing is taken after about a second, and from then on handshake_timeout counts; when wsd stops before that, it is reset."`
	OutboundMax      Bytes         `key:"outbound_max" def:"1MiB" help:"Bytes that may wait in wsd for one connection; beyond it the client is closed with 3008 (raw: 1008)."`
	SlowPolicies     []SlowPolicy  `key:"slow_policies" help:"What a client meets that does not keep up with a channel: PATTERN=POLICY, the pattern being a channel's name or its beginning and *, the policy disconnect, conflate (the newest record of each key) or resync (subscribe again and recover); the first that fits wins. Default: disconnect."`
	MessageMax       Bytes         `key:"message_max" def:"64KiB" help:"Largest message from a client; a larger one closes it with 1009."`
	HeadMax          Bytes         `key:"head_max" def:"8KiB" help:"Largest upgrade request."`
	HandshakeTimeout time.Duration `key:"handshake_timeout" def:"5s" help:"From accept to a complete upgrade request."`
	StaleCloseDelay  time.Duration `key:"stale_close_delay" def:"10s" help:"From the upgrade to the connect command; then the client is closed with 3502."`
	FrameTimeout     time.Duration `key:"frame_timeout" def:"10s" help:"From the first byte of a client's message to its last."`
	PingInterval     time.Duration `key:"ping_interval" def:"25s" help:"Between two pings."`
	PongTimeout      time.Duration `key:"pong_timeout" def:"10s" help:"How long a pong may take; then the client is closed with 3012. Shorter than ping_interval."`
	ChannelsMax      int           `key:"channels_max" def:"128" help:"Subscriptions of one connection."`
	ChannelLengthMax int           `key:"channel_length_max" def:"255" help:"Bytes of a channel's name."`

	Compression          bool  `key:"compression" def:"false" help:"Offer permessage-deflate (RFC 7692) to clients that ask for it. It saves bytes and costs CPU, see docs/clients.md."`
	CompressionThreshold Bytes `key:"compression_threshold" def:"512" help:"Messages of fewer bytes are sent as they are, 64 to 1MiB."`
	CompressionLevel     int   `key:"compression_level" def:"3" help:"1, fastest, to 9, smallest. 1 and 2 leave numbers that hardly repeat as they are."`
	CompressionWorkers   int   `key:"compression_workers" def:"0" help:"Goroutines that compress large batches, at most 256; 0: half of the CPUs that wsd may use (GOMAXPROCS), at least one."`
}

// Admin is the private HTTP port.
type Admin struct {
	Listen string `key:"listen" def:"127.0.0.1:9000" help:"Address of health, readiness, metrics and page; empty: none. Beyond loopback only /health, /ready and /metrics are served."`
}

// Control is the socket that wsd's own commands use.
type Control struct {
	Socket string `key:"socket" help:"Path of the control socket. Default: /run/wsd/PORT.sock, PORT being that of the first client.listen."`
}

// Kafka is where records come from.
type Kafka struct {
	Brokers          []string      `key:"brokers" def:"127.0.0.1:9092" help:"host:port of brokers to learn the cluster from."`
	Topics           []string      `key:"topics" help:"Topics to read, every partition of each. Those that do not exist yet are picked up when they appear. re:EXPRESSION stands for all topics whose name the expression matches as a whole, now or later."`
	TopicsMax        int           `key:"topics_max" def:"1000" help:"Topics read at most, those that patterns find included, 1 to 10000."`
	Start            string        `key:"start" def:"latest" help:"Where to begin: latest, earliest, a time (RFC 3339, such as 2026-01-31T08:00:00Z), or committed: where commit_group stands, and latest in topics that it has no position of."`
	CommitGroup      string        `key:"commit_group" help:"Consumer group under which positions are kept in Kafka, at most once a second, so that its own tools show wsd's lag; wsd does not join it. Nobody else may use it, each wsd needs one of its own. Empty: none."`
	ClientID         string        `key:"client_id" def:"wsd" help:"Name that the brokers log and apply quotas to."`
	FetchMaxWait     time.Duration `key:"fetch_max_wait" def:"500ms" help:"How long a broker holds a fetch that has no record. It costs no latency."`
	FetchMaxBytes    Bytes         `key:"fetch_max_bytes" def:"1MiB" help:"Bytes of one partition in one response."`
	MaxRecordBytes   Bytes         `key:"max_record_bytes" def:"1MiB" help:"Largest record delivered: its key, value and headers. A larger one is left out, counted in wsd_kafka_lost_total, and logged once a topic. Above client.outbound_max one still reaches clients that keep up."`
	MetadataInterval time.Duration `key:"metadata_interval" def:"2s" help:"Between two looks at the cluster's layout."`
	Partitioner      string        `key:"partitioner" help:"How those who produce records choose a partition by the key: murmur2, the Java clients' default, or crc32, librdkafka's. Then clients can recover channels that a key names. Default: not known."`
	TLS              TLS           `key:"tls"`
	SASL             SASL          `key:"sasl"`
}

// TLS is how to talk to brokers.
type TLS struct {
	Enabled            bool   `key:"enabled" def:"false" help:"Talk to the brokers by TLS."`
	CAFile             string `key:"ca_file" help:"PEM file of the authorities that may sign a broker's certificate. Default: the system's."`
	CertFile           string `key:"cert_file" help:"PEM file of the certificate to show; needs key_file."`
	KeyFile            string `key:"key_file" help:"PEM file of that certificate's key."`
	ServerName         string `key:"server_name" help:"Name that the brokers' certificates must have. Default: each broker's host."`
	InsecureSkipVerify bool   `key:"insecure_skip_verify" def:"false" help:"Take any certificate. For tests."`
}

// SASL is who to be for the brokers.
type SASL struct {
	Mechanism    string `key:"mechanism" help:"plain, scram-sha-256 or scram-sha-512; empty: none."`
	Username     string `key:"username" help:"Name to log in with."`
	Password     Secret `key:"password" secret:"true" help:"Password; better in password_file, which ps does not show."`
	PasswordFile string `key:"password_file" help:"File whose content, without the last line break, is the password."`
}

// Overrides are headers by which records themselves say where they go.
type Overrides struct {
	Enabled     bool     `key:"enabled" def:"false" help:"Whether headers of a record may say where it goes, whatever routes says: whoever may produce can then reach every client (docs/routing.md)."`
	Topics      []string `key:"topics" help:"Topics whose records are believed, as names or patterns. Default: all."`
	Channels    string   `key:"channels" def:"wsd-channels" help:"Header with names of channels, parted by commas; empty: none."`
	Client      string   `key:"client" def:"wsd-client" help:"Header with the id that a client got in the answer to its connect command; empty: none."`
	User        string   `key:"user" def:"wsd-user" help:"Header with a user; empty: none."`
	Broadcast   string   `key:"broadcast" def:"wsd-broadcast" help:"Header that is true for a message to every client; empty: none."`
	ChannelsMax int      `key:"channels_max" def:"16" help:"Channels that one record may name, at most 256."`
}

// SlowPolicy says what a client meets that does not keep up with a channel.
type SlowPolicy struct {
	Channel string `key:"channel" help:"A channel's name, or the beginning of names and *."`
	Policy  string `key:"policy" help:"disconnect, conflate or resync."`
}

// Steering is how new connections find their shard. What Mode, PinDir, PinGroup and Limits.SourcesMax do not say, `wsd steer` may change
// while wsd runs.
type Steering struct {
	Mode          string        `key:"mode" def:"auto" help:"auto: by eBPF where the kernel lets us, else by the kernel's hash; require: by eBPF or not at all; off: by the kernel's hash."`
	PinDir        string        `key:"pin_dir" def:"/sys/fs/bpf/wsd" help:"Directory on a bpffs; the maps are pinned in a directory below it that is named as the port."`
	PinGroup      string        `key:"pin_group" help:"Group, by name or number, that the pins and their directory belong to; empty: the process's own."`
	Policy        string        `key:"policy" def:"least-loaded" help:"Which shard a new connection goes to. least-loaded: the one with the fewest connections; weighted: with the fewest for its weight; p2c: of two drawn by lot the one with fewer; cpu-local: one of the CPU that the connection came in on; hash: by the kernel's hash."`
	Weights       []int         `key:"weights" help:"Share of each shard relative to the others under the policy weighted, from shard 0 on, 0 to 10000; 0: none while another can take it. Shards left out have 100."`
	StallBound    time.Duration `key:"stall_bound" def:"100ms" help:"A shard whose turn lasts longer gets no new connections, in whole milliseconds, at most 60s; 0: however long."`
	Ramp          time.Duration `key:"ramp" def:"3s" help:"For how long after a stall a shard gets only part of what it would, in whole milliseconds, at most 10m; 0: all at once."`
	PendingMax    int           `key:"pending_max" def:"1024" help:"A shard with more connections picked but not accepted gets no new ones while others have fewer; 0: however many."`
	CPULocalBound int           `key:"cpu_local_bound" def:"16" help:"Under the policy cpu-local, how many connections more than the least loaded shard a CPU's own may have."`
	Limits        Limits        `key:"limits"`
}

// Limits is which new connections are refused before wsd takes them.
type Limits struct {
	Admission       int      `key:"admission" def:"0" help:"How many of 100 new connections are refused, by lot."`
	AdmissionDryRun bool     `key:"admission_dry_run" def:"false" help:"Only count what admission would refuse."`
	SourceRate      int      `key:"source_rate" def:"0" help:"New connections per second from one source address, at most 1000000; 0: any number."`
	SourceBurst     int      `key:"source_burst" def:"0" help:"How many may come from one source at once, at most 1000000; 0: as many as source_rate."`
	SourcePrefix4   int      `key:"source_prefix4" def:"32" help:"Bits of an IPv4 address that tell sources apart, 0 to 32."`
	SourcePrefix6   int      `key:"source_prefix6" def:"64" help:"Bits of an IPv6 address that tell sources apart, 0 to 128."`
	SourceDryRun    bool     `key:"source_dry_run" def:"false" help:"Only count what source_rate would refuse."`
	SourceExempt    []string `key:"source_exempt" help:"Prefixes and addresses that source_rate does not apply to, such as 10.0.0.0/8 or 2001:db8::1; at most 1024."`
	SourcesMax      int      `key:"sources_max" def:"65536" help:"Sources remembered at once, 1024 to 4000000. About 100 bytes of kernel memory each, taken at start."`
}

// Bus is the ring of batches between the source and the shards.
type Bus struct {
	BatchMax      int           `key:"batch_max" def:"512" help:"Records in one batch."`
	BatchBytesMax Bytes         `key:"batch_bytes_max" def:"256KiB" help:"Bytes of values in one batch, at most half of client.outbound_max; a single larger record makes a batch of its own."`
	BatchAge      time.Duration `key:"batch_age" def:"5ms" help:"How long a record may wait in Kafka for a batch to fill where records come fast, 4,000 a second and more from one broker; whole milliseconds. Where fewer come none waits. 0: none ever does."`
	RingBatches   int           `key:"ring_batches" def:"1024" help:"Batches that the ring holds; a power of two."`
	RingBytesMax  Bytes         `key:"ring_bytes_max" def:"64MiB" help:"Bytes that the ring holds, laid out messages included."`
	PinnedMax     Bytes         `key:"pinned_max" def:"256MiB" help:"Bytes of laid out messages that clients which do not keep up may hold, all together, after the ring has let them go; beyond it those that hold the oldest are closed as slow."`
	StallMax      time.Duration `key:"stall_max" def:"1s" help:"How long the source waits for a shard that makes no progress; then the shard is detached and its subscribers are told to come back."`
}

// Recovery is what clients that come back are given of what they missed, see docs/recovery.md.
type Recovery struct {
	Enabled         bool          `key:"enabled" def:"true" help:"Let clients recover what they missed, and ask for history."`
	MaxPublications int           `key:"max_publications" def:"300" help:"Publications that a client may have missed in a channel, or may have of its history at once, at most 10000."`
	MaxBytes        Bytes         `key:"max_bytes" def:"1MiB" help:"Bytes of those publications, with about 100 for each."`
	Timeout         time.Duration `key:"timeout" def:"3s" help:"How long a client waits for what it missed; then it is told that it has not recovered. Clients give up after some seconds, the SDKs after 5."`
	CacheBytes      Bytes         `key:"cache_bytes" def:"64MiB" help:"Bytes of the records read last that are kept, as Kafka sent them, so that most clients recover without a read; 0: none."`
	ReadBytes       Bytes         `key:"read_bytes" def:"64MiB" help:"Bytes of what was read from Kafka again that are kept for a few seconds, and that answers in the making may hold."`
	Concurrency     int           `key:"concurrency" def:"4" help:"Partitions that are read again at the same time, each over a connection of its own, at most 64."`
	WaitingMax      int           `key:"waiting_max" def:"100000" help:"Subscriptions and history requests that may wait for an answer; beyond it they are told at once that there is none."`
	CacheChannels   []string      `key:"cache_channels" help:"Channels of which a client that comes, or comes back, recovers the last publication only: names, or beginnings of names and *."`
}

// Shutdown is how wsd ends.
type Shutdown struct {
	Drain time.Duration `key:"drain" def:"8s" help:"From SIGTERM to exit at the latest: what is left is flushed, clients are closed with 3001 (raw: 1001)."`
}

// Log is what wsd writes to standard error.
type Log struct {
	Level  string `key:"level" def:"info" help:"debug, info, warn or error."`
	Format string `key:"format" def:"auto" help:"text, json, or auto: text on a terminal, else json."`
}

// Debug is for tests and for finding faults.
type Debug struct {
	ShardHeader bool `key:"shard_header" def:"false" help:"Tell clients their shard in an X-Wsd-Shard header of the 101."`
}

// Dev is for `wsd dev` alone.
type Dev struct {
	KafkaListen string   `key:"kafka_listen" def:"127.0.0.1:9092" help:"Address of the Kafka inside wsd dev."`
	Rate        int      `key:"rate" def:"50" help:"Demo trades a second; 0: none."`
	Topics      []string `key:"topics" help:"Topics to make and serve beside trades and loadtest."`
	Stdin       string   `key:"stdin" help:"Topic that the lines of standard input go to, a record each."`
}
