package config

import "time"

// Config is every option of wsd.
type Config struct {
	Client    Client       `key:"client"`
	Auth      Auth         `key:"auth"`
	Proxy     Proxy        `key:"proxy"`
	RPC       RPC          `key:"rpc"`
	Send      Send         `key:"send"`
	Limits    ClientLimits `key:"limits"`
	Admin     Admin        `key:"admin"`
	API       API          `key:"api"`
	Commands  Commands     `key:"commands"`
	Control   Control      `key:"control"`
	Metrics   Metrics      `key:"metrics"`
	Health    Health       `key:"health"`
	Shards    int          `key:"shards" def:"0" help:"Number of event loops, at most 256. 0: one for each CPU that wsd may use (GOMAXPROCS)."`
	Kafka     Kafka        `key:"kafka"`
	Routes    []Route      `key:"routes" help:"Rules that choose the channel of a record; the first rule that matches decides (docs/routing.md). In a flag or variable: [TOPIC=]CHANNEL, where CHANNEL may contain {topic}, {key}, {partition}, {header.NAME} and {json.FIELD}. Default: {topic}."`
	Overrides Overrides    `key:"overrides"`
	Steering  Steering     `key:"steering"`
	Admission Admission    `key:"admission"`
	Bus       Bus          `key:"bus"`
	Recovery  Recovery     `key:"recovery"`
	Publish   Publish      `key:"publish"`
	Shutdown  Shutdown     `key:"shutdown"`
	Log       Log          `key:"log"`
	Debug     Debug        `key:"debug"`
	Dev       Dev          `key:"dev"`
}

// Client is the client port and the limits of its connections.
type Client struct {
	Listen           []string      `key:"listen" def:":8000" help:"Addresses that clients connect to, as HOST:PORT. An empty host means all addresses of the machine."`
	TLSListen        []string      `key:"tls_listen" help:"Addresses that clients connect to by TLS (wss://), as HOST:PORT. They need client.tls.certificates (docs/tls.md)."`
	TLS              ClientTLS     `key:"tls"`
	ListenWait       time.Duration `key:"listen_wait" def:"10s" help:"How long to wait at start for Kafka's positions before clients are accepted, so that clients which come back after a restart find theirs. They wait in the kernel meanwhile. After that they are accepted all the same. 0: do not wait."`
	KernelSendBuffer Bytes         `key:"kernel_send_buffer" def:"32KiB" help:"Send buffer of a connection (SO_SNDBUF). The kernel doubles it and limits it to net.core.wmem_max. 0: the kernel chooses, up to 4 MB for a client that does not read."`
	DeferAccept      bool          `key:"defer_accept" def:"true" help:"Accept a connection only once its first bytes have arrived (TCP_DEFER_ACCEPT). This saves about a quarter of the CPU time per connection. A silent client is accepted after about a second, and handshake_timeout runs from then; if wsd stops before that, the connection is reset."`
	OutboundMax      Bytes         `key:"outbound_max" def:"1MiB" help:"Bytes that may wait in wsd for one connection. A client that exceeds them is closed with 3008 (raw: 1008)."`
	SlowPolicies     []SlowPolicy  `key:"slow_policies" help:"What to do with clients that fall behind, per channel, as PATTERN=POLICY. PATTERN is a channel name or a prefix followed by *. POLICY is disconnect, conflate (send only the newest record of each key) or resync (the client subscribes again and recovers). The first pattern that matches decides. Default: disconnect."`
	MessageMax       Bytes         `key:"message_max" def:"0" help:"Largest message from a client. A larger one closes the connection with 1009. 0: as much as a client needs to subscribe again to channels_max channels with names of channel_length_max bytes and tokens of 600, 64KiB to 16MiB; that is 128KiB with the defaults."`
	FirstMessageMax  Bytes         `key:"first_message_max" def:"0" help:"Largest message from a client before its connect command is answered. A larger one closes the connection with 1009. SDKs send connect and all subscriptions in one message, so it must have room for those. 0: message_max."`
	MessageOutMax    Bytes         `key:"message_out_max" def:"32KiB" help:"Largest message to a client of the protocol that holds several publications; larger batches go out as several messages in one write. A single publication may be larger. Client libraries have limits of their own, such as 32 KiB."`
	HeadMax          Bytes         `key:"head_max" def:"0" help:"Largest upgrade request, at most 1MiB. A larger one gets status 431. 0: as much as a raw client needs to name channels_max channels of channel_length_max percent-encoded bytes, 8KiB to 1MiB; that is 108KiB with the defaults."`
	PathPrefix       string        `key:"path_prefix" help:"Prefix of the paths of the client port, such as /live, for a proxy that passes on paths as they are. The paths without it are served as well. Default: none."`
	HandshakeTimeout time.Duration `key:"handshake_timeout" def:"5s" help:"Time from accepting a connection to its complete upgrade request."`
	StaleCloseDelay  time.Duration `key:"stale_close_delay" def:"5s" help:"Time from the upgrade to the connect command. A client that takes longer is closed with 3502."`
	FrameTimeout     time.Duration `key:"frame_timeout" def:"10s" help:"Time from the first byte of a client's message to its last."`
	PingInterval     time.Duration `key:"ping_interval" def:"25s" help:"Time between two pings."`
	PongTimeout      time.Duration `key:"pong_timeout" def:"10s" help:"Time that a client has to answer a ping; then it is closed with 3012. Must be shorter than ping_interval."`
	ProgressTimeout  time.Duration `key:"progress_timeout" def:"30s" help:"Close a client for which bytes wait and whose kernel has acknowledged none for this long, whatever pongs it sends (TCP_USER_TIMEOUT)."`
	ChannelsMax      int           `key:"channels_max" def:"128" help:"Maximum number of subscriptions per connection."`
	UnknownChannels  string        `key:"unknown_channels" def:"accept" help:"What to do with a subscription to a channel that no topic of kafka.topics, rule or header can ever feed. accept: it stays silent. refuse: error 102 (raw: status 400)."`
	IgnoreSend       bool          `key:"ignore_send" def:"false" help:"Drop and count (wsd_sends_total) what clients send by the send command while neither send.endpoint nor send.topic is set, rather than close them with 3508."`
	ChannelLengthMax int           `key:"channel_length_max" def:"255" help:"Maximum length of a channel name in bytes."`
	Edge

	Compression          bool  `key:"compression" def:"false" help:"Offer permessage-deflate (RFC 7692) to clients that ask for it. It saves bytes and costs CPU (docs/clients.md)."`
	CompressionThreshold Bytes `key:"compression_threshold" def:"512" help:"Messages smaller than this are not compressed, 64 to 1MiB."`
	CompressionLevel     int   `key:"compression_level" def:"3" help:"1 (fastest) to 9 (smallest). Levels 1 and 2 hardly compress numbers that rarely repeat."`
	CompressionWorkers   int   `key:"compression_workers" def:"0" help:"Goroutines that compress large batches, at most 256. 0: half as many as the CPUs that wsd may use (GOMAXPROCS), at least one."`
}

// ClientLimits is how much a client may do.
type ClientLimits struct {
	CommandsRate       int           `key:"commands_rate" def:"0" help:"Commands per second that one client may send. It may save up 15 seconds of each rate, and is closed with 3013 (raw: 1008) above that. A command of more than 4 KiB counts as several. 0: as many as a client needs that subscribes again to channels_max channels, at least 200; that is 230 with the defaults."`
	FramesRate         int           `key:"frames_rate" def:"500" help:"WebSocket frames per second that one client may send, fragments, pings and pongs included, 1 to 1000000."`
	InflatedRate       Bytes         `key:"inflated_rate" def:"0" help:"Bytes per second that compressed messages of one client may have when decompressed. 0: a quarter of message_max, at least 256KiB."`
	RecoveriesRate     int           `key:"recoveries_rate" def:"0" help:"Recoveries and history requests per second of one client, on the same terms. 0: as many as a client needs that recovers channels_max channels in 5 seconds, at least 50."`
	Connections        int           `key:"connections" def:"0" help:"Maximum upgraded connections. Further ones get status 503. 0: as many as file descriptors allow."`
	AddressConnections int           `key:"address_connections" def:"0" help:"Maximum upgraded connections of one client address, or one IPv6 /64 network. Further ones get status 429. Behind a proxy all clients have its address, unless it names them (client.proxy_protocol, client.trusted_proxies). 0: no limit."`
	UserConnections    int           `key:"user_connections" def:"0" help:"Maximum upgraded connections of one user, by the sub of its token (auth.mode). Further ones are closed with 3504 (raw: status 429). 0: no limit."`
	AddressFailures    int           `key:"address_token_failures" def:"1000" help:"Maximum tokens of one client address that may fail to verify in a minute or two. After that, all tokens of the address are refused for a minute or two with an error after which clients try again. Behind a proxy all clients have its address, unless it names them (client.proxy_protocol, client.trusted_proxies). 0: no limit."`
	Handshakes         int           `key:"handshakes" def:"10000" help:"Maximum connections whose upgrade request is incomplete. Further ones get status 503. 0: no limit."`
	AddressHandshakes  int           `key:"address_handshakes" def:"0" help:"Maximum connections of one client address whose upgrade request is incomplete. Further ones get status 429. 0: no limit."`
	Channels           int           `key:"channels" def:"1000000" help:"Maximum channels with a subscriber. Subscriptions to further ones get error 106 (raw: status 503). 0: no limit."`
	ChannelsRate       int           `key:"channels_rate" def:"100000" help:"Maximum channels per second that get their first subscriber. Subscriptions to further ones get error 111, which is temporary (raw: status 503). 0: no limit."`
	PublishRate        int           `key:"publish_rate" def:"50" help:"Publications per second of one client. It may save up two seconds of it, and gets error 111 for more, which is temporary (raw: 1008). 0: no limit but commands_rate."`
	PublishUnderWay    int           `key:"publish_under_way" def:"100" help:"Publications of one client that Kafka may not have acknowledged yet. For more it gets error 111, which is temporary (raw: 1008). 0: no limit but publish.under_way_max."`
	Age                time.Duration `key:"age" def:"0s" help:"Close a client that has been connected for this long, give or take a tenth, with 3011 (raw: 1012), so that it comes back, perhaps at another machine. At least 1s. 0: never."`
	Idle               time.Duration `key:"idle" def:"0s" help:"Close a client of the protocol that has had no subscription for this long with 3503, after which it stays away. At least 1s. 0: never."`
	Memory             Bytes         `key:"memory" def:"0" help:"Memory for what clients hold alone, all together: replies, recovered and merged publications, and what they have sent. From 80% on, histories and recoveries get a temporary error; from 90% on, the clients that hold most are closed. 0: an eighth of the cgroup's memory limit, or without one a quarter of the machine's memory."`
	AnswersMemory      Bytes         `key:"answers_memory" def:"0" help:"The part of memory that histories and recovered publications may take, at least 1MiB. Beyond it, histories and recoveries get a temporary error. 0: half of memory, at most 256MiB."`
	DryRun             []string      `key:"dry_run" help:"Names of limits that are only counted (wsd_limit_exceeded_total) and logged, such as commands_rate or outbound_max; docs/limits.md lists them. Bytes of messages and requests, and subscriptions, then have the largest value of their option as their limit."`
}

// Admin is the private HTTP port.
type Admin struct {
	Listen string `key:"listen" def:"127.0.0.1:9000" help:"Address that serves health, readiness, metrics and the demo page. Empty: no admin port. On an address that is not loopback, only /health, /ready and /metrics are served without admin.token_file."`
	AdminAccess
}

// Control is the socket that wsd's own commands use.
type Control struct {
	Socket string `key:"socket" help:"Path of the control socket. Default: /run/wsd/PORT.sock, where PORT is that of the first client.listen, or without one of the first client.tls_listen."`
}

// Metrics is what /metrics shows.
type Metrics struct {
	TopicsMax int `key:"topics_max" def:"200" help:"Maximum number of topics with metrics of their own, 0 to 10000. Each has about 75 values and 6 for each partition, and takes 2.5 KB for each shard that delivers it. The others are summed up under the topic (unlisted), so sums over all topics stay right."`
}

// Kafka is the cluster that records are read from.
type Kafka struct {
	Brokers          []string      `key:"brokers" def:"127.0.0.1:9092" help:"Brokers to learn the cluster from, as HOST:PORT."`
	Topics           []string      `key:"topics" help:"Topics to read, with all their partitions. Topics that do not exist yet are read as soon as they appear. re:EXPRESSION stands for all topics, now or later, whose whole name matches the expression."`
	TopicsMax        int           `key:"topics_max" def:"1000" help:"Maximum number of topics to read, including those that patterns match, 1 to 10000."`
	Start            string        `key:"start" def:"latest" help:"Where to begin reading: latest, earliest, a time (RFC 3339, such as 2026-01-31T08:00:00Z), or committed. committed means the positions of commit_group, and latest in topics where the group has none."`
	CommitGroup      string        `key:"commit_group" help:"Consumer group to commit positions to, at most once a second, so that Kafka's own tools show wsd's lag. wsd does not join the group. Each wsd needs a group of its own that nothing else uses. Empty: none."`
	ClusterID        string        `key:"cluster_id" help:"Id that the cluster must have, as kafka-cluster.sh cluster-id prints it. Brokers of another cluster are refused. Default: the id that the first broker names."`
	ClientID         string        `key:"client_id" def:"wsd" help:"Client id, which brokers log and apply quotas to."`
	Rack             string        `key:"rack" help:"Rack, or availability zone, that wsd is in, as broker.rack names those of the brokers. If the brokers have a replica.selector.class, each partition is then read from a replica in the same rack. Default: always from the leader."`
	Isolation        string        `key:"isolation" def:"read_committed" help:"read_committed: deliver records of transactions once they are committed, in order with all others. read_uncommitted: deliver every record at once, also of transactions that are aborted later (docs/kafka.md)."`
	FetchMaxWait     time.Duration `key:"fetch_max_wait" def:"500ms" help:"How long a broker holds a fetch while there are no records. It adds no latency."`
	FetchMaxBytes    Bytes         `key:"fetch_max_bytes" def:"1MiB" help:"Maximum bytes per partition in one fetch response."`
	MaxRecordBytes   Bytes         `key:"max_record_bytes" def:"1MiB" help:"Largest record to deliver: the sum of key, value and headers. Larger records are skipped, counted in wsd_kafka_lost_total, and logged once per topic. A record larger than client.outbound_max still reaches clients that keep up."`
	JSONDepthMax     int           `key:"json_depth_max" def:"128" help:"How deep arrays and objects in a value may be nested, 1 to 10000. A deeper value counts as invalid JSON: JSON clients do not get it. Many parsers give up early, and then end the client: PHP's at 512, Python's near 990, Jackson at 1000."`
	MetadataInterval time.Duration `key:"metadata_interval" def:"2s" help:"Time between two updates of the cluster's topology: its topics, partitions and leaders."`
	BehindMax        time.Duration `key:"behind_max" def:"30s" help:"How long a topic may be behind the end of Kafka's log before /health and the log name it. A topic that catches up with a backlog is behind as well. 0: never."`
	Partitioner      string        `key:"partitioner" help:"How your producers choose a partition by key: murmur2 (default of the Java clients) or crc32 (default of librdkafka). If set, clients can also recover channels that are named by a key. Default: unknown."`
	DialTimeout      time.Duration `key:"dial_timeout" def:"10s" help:"Time to connect to a broker, including TLS and the login."`
	RequestTimeout   time.Duration `key:"request_timeout" def:"10s" help:"How long a request to a broker may go without progress until its response is complete, on top of fetch_max_wait. A large response over a slow link may take longer. After a timeout, wsd asks for less at a time."`
	TLS              TLS           `key:"tls"`
	SASL             SASL          `key:"sasl"`
}

// TLS is how to encrypt connections to brokers.
type TLS struct {
	Enabled            bool   `key:"enabled" def:"false" help:"Use TLS for connections to brokers."`
	CAFile             string `key:"ca_file" help:"PEM file with the authorities that may sign a broker's certificate. New connections use the file as it is then. Default: the system's."`
	CertFile           string `key:"cert_file" help:"PEM file with the client certificate. Needs key_file. New connections use both files as they are then."`
	KeyFile            string `key:"key_file" help:"PEM file with the key of that certificate."`
	ServerName         string `key:"server_name" help:"Name that the brokers' certificates must have. Default: each broker's host."`
	InsecureSkipVerify bool   `key:"insecure_skip_verify" def:"false" help:"Accept any certificate. For tests only."`
}

// Overrides are headers with which a record itself says where it goes.
type Overrides struct {
	Enabled     bool     `key:"enabled" def:"false" help:"Let headers of a record choose where it goes, regardless of routes. Anyone who may produce can then reach every client (docs/routing.md)."`
	Topics      []string `key:"topics" help:"Topics whose records may use these headers, as names or patterns. Default: all."`
	Channels    string   `key:"channels" def:"wsd-channels" help:"Header with a comma-separated list of channels. Empty: none."`
	Client      string   `key:"client" def:"wsd-client" help:"Header with the id of a client, which the client learns from the reply to its connect command. Empty: none."`
	User        string   `key:"user" def:"wsd-user" help:"Header with a user. Empty: none."`
	Broadcast   string   `key:"broadcast" def:"wsd-broadcast" help:"Header whose value is true for a message to every client. Empty: none."`
	ChannelsMax int      `key:"channels_max" def:"16" help:"Maximum number of channels that one record may name, at most 256."`
}

// SlowPolicy is what to do with clients that fall behind in some channels.
type SlowPolicy struct {
	Channel string `key:"channel" help:"A channel name, or a prefix followed by *."`
	Policy  string `key:"policy" help:"disconnect, conflate or resync."`
}

// Steering is how a new connection is assigned to a shard. `wsd steer` may change it while wsd runs, except for Mode,
// PinDir, PinGroup and Limits.SourcesMax.
type Steering struct {
	Mode          string        `key:"mode" def:"auto" help:"auto: choose shards with eBPF where the kernel allows it, else with the kernel's own hash. require: refuse to start without eBPF. off: always use the kernel's hash."`
	PinDir        string        `key:"pin_dir" def:"/sys/fs/bpf/wsd" help:"Directory on a bpffs. The maps are pinned in a subdirectory named after the client port."`
	PinGroup      string        `key:"pin_group" help:"Group, by name or number, that owns the pins and their directory. Empty: the group of the process."`
	Policy        string        `key:"policy" def:"least-loaded" help:"How to choose the shard of a new connection. least-loaded: the shard with the fewest connections. weighted: the fewest relative to its weight. p2c: the one with fewer of two random shards. cpu-local: a shard of the CPU that the connection came in on. hash: the kernel's own hash."`
	Weights       []int         `key:"weights" help:"Weight of each shard, from shard 0 on, 0 to 10000, under the policy weighted. Shards without one have weight 100. A shard with weight 0 gets connections only if no other shard can take them."`
	StallBound    time.Duration `key:"stall_bound" def:"100ms" help:"A shard whose loop turn takes longer gets no new connections until the turn ends. Whole milliseconds, at most 60s. 0: no bound."`
	Ramp          time.Duration `key:"ramp" def:"3s" help:"Time after a stall during which a shard gets fewer new connections than its load alone would give it. Whole milliseconds, at most 10m. 0: no ramp."`
	PendingMax    int           `key:"pending_max" def:"1024" help:"A shard with more pending connections (picked, not accepted) gets no new ones while another shard has fewer. 0: no limit."`
	CPULocalBound int           `key:"cpu_local_bound" def:"16" help:"Under the policy cpu-local: how many connections more than the least loaded shard a shard of the same CPU may have."`
	Limits        Limits        `key:"limits"`
}

// Limits is which new connections the kernel refuses.
type Limits struct {
	Admission       int      `key:"admission" def:"0" help:"Percentage of new connections to refuse, chosen at random."`
	AdmissionDryRun bool     `key:"admission_dry_run" def:"false" help:"Only count the connections that admission would refuse."`
	SourceRate      int      `key:"source_rate" def:"0" help:"Maximum new connections per second from one client address, at most 1000000. 0: no limit."`
	SourceBurst     int      `key:"source_burst" def:"0" help:"Maximum new connections at once from one client address, at most 1000000. 0: as many as source_rate."`
	SourcePrefix4   int      `key:"source_prefix4" def:"32" help:"Leading bits of an IPv4 address that count as one client address, 0 to 32."`
	SourcePrefix6   int      `key:"source_prefix6" def:"64" help:"Leading bits of an IPv6 address that count as one client address, 0 to 128."`
	SourceDryRun    bool     `key:"source_dry_run" def:"false" help:"Only count the connections that source_rate would refuse."`
	SourceExempt    []string `key:"source_exempt" help:"Client addresses and prefixes that source_rate does not apply to, such as 10.0.0.0/8 or 2001:db8::1; at most 1024."`
	SourcesMax      int      `key:"sources_max" def:"65536" help:"Client addresses tracked for source_rate, 1024 to 4000000. Each takes about 100 bytes of kernel memory, reserved at start."`
}

// Bus is the ring of batches between the source and the shards.
type Bus struct {
	BatchMax      int           `key:"batch_max" def:"512" help:"Maximum records per batch."`
	BatchBytesMax Bytes         `key:"batch_bytes_max" def:"256KiB" help:"Maximum bytes of values per batch, at most half of client.outbound_max. A single larger record gets a batch of its own."`
	BatchAge      time.Duration `key:"batch_age" def:"5ms" help:"How long a record may wait in Kafka for a batch to fill, in whole milliseconds. Applies only while a broker delivers about 4,000 records a second or more; below that, no record waits. 0: never wait."`
	RingBatches   int           `key:"ring_batches" def:"1024" help:"Number of batches that the ring holds. A power of two."`
	RingBytesMax  Bytes         `key:"ring_bytes_max" def:"64MiB" help:"Maximum bytes that the ring holds, encoded messages included."`
	PinnedMax     Bytes         `key:"pinned_max" def:"256MiB" help:"Maximum bytes of encoded messages that slow clients may keep in memory, all together, after the ring has dropped them. Beyond it, the clients that hold the oldest ones are closed as slow."`
	StallMax      time.Duration `key:"stall_max" def:"1s" help:"How long the source waits for a shard that makes no progress. After that the shard is detached, and its subscribers have to subscribe again."`
}

// Recovery is how clients that reconnect get the publications they missed (docs/recovery.md).
type Recovery struct {
	Enabled           bool          `key:"enabled" def:"true" help:"Let clients recover missed publications and ask for history."`
	MaxPublications   int           `key:"max_publications" def:"10000" help:"Maximum publications that a client may have missed in a channel and still recover, at most 100000000. It gets them as fast as it reads, so the memory that a client takes does not depend on it."`
	Channels          []string      `key:"channels" help:"Which part of a channel's stream clients may recover and read, as PATTERN=COUNT or PATTERN=COUNT/AGE, such as chat.*=100/5m: the last COUNT publications (0: max_publications), and none that is older than AGE by its timestamp in Kafka. PATTERN is a channel name or a prefix followed by *. The first pattern that matches decides. Default: max_publications of any age."`
	MaxBytes          Bytes         `key:"max_bytes" def:"1MiB" help:"Maximum bytes of the publications in one history reply. Each counts 100 bytes more than its value. One is always sent, whatever its size."`
	Timeout           time.Duration `key:"timeout" def:"3s" help:"How long a client waits for missed publications. After that it gets a temporary error, and tries again. Clients themselves give up after some seconds, the SDKs after 5."`
	CacheBytes        Bytes         `key:"cache_bytes" def:"64MiB" help:"Memory for the most recent records, kept as Kafka sent them, so that most clients recover without reading Kafka again. 0: none."`
	ReadBytes         Bytes         `key:"read_bytes" def:"64MiB" help:"Memory for records read from Kafka again. It covers what is kept for a few seconds and the answers that are being built."`
	Concurrency       int           `key:"concurrency" def:"4" help:"How many partitions may be read again at the same time, each over its own connection, at most 64."`
	WaitingMax        int           `key:"waiting_max" def:"100000" help:"Maximum subscriptions and history requests that may wait for an answer. Further ones fail at once."`
	WaitingAddressMax int           `key:"waiting_address_max" def:"0" help:"How many of them may come from one client address, or one IPv6 /64 network, so that others find a place. Further ones fail at once. Clients behind a NAT share the places of its address. Behind a proxy that does not name its clients (client.proxy_protocol, client.trusted_proxies) all have its address: set it to waiting_max there. 0: half of waiting_max."`
	CacheChannels     []string      `key:"cache_channels" help:"Channels that send only their last publication to a client that subscribes or reconnects. Channel names, or prefixes followed by *."`
}

// Shutdown is how wsd stops.
type Shutdown struct {
	Delay time.Duration `key:"delay" def:"0" help:"Time from SIGTERM to the end of accepting, in which wsd is not ready (/ready, /healthz) and serves on, also new clients: what a load balancer needs to see that. It counts from the begin of wsd drain, if one is on."`
	Drain time.Duration `key:"drain" def:"8s" help:"Maximum time from the end of shutdown.delay to exit. Clients are closed with 3001 (raw: 1001) evenly over this time except its last quarter (at most 5s), but at least ten a second; each first gets what waits for it (docs/deploy.md)."`
}

// Log is the log on standard error.
type Log struct {
	Level  string `key:"level" def:"info" help:"debug, info, warn or error."`
	Format string `key:"format" def:"auto" help:"text, json or auto. auto means text on a terminal, else json."`
}

// Debug is for tests and troubleshooting.
type Debug struct {
	ShardHeader bool `key:"shard_header" def:"false" help:"Send clients the number of their shard, in the header X-Wsd-Shard of the 101 response."`
}

// Dev is only for `wsd dev`.
type Dev struct {
	KafkaListen string   `key:"kafka_listen" def:"127.0.0.1:9092" help:"Address of the Kafka inside wsd dev."`
	TLS         bool     `key:"tls" def:"false" help:"Serve client.tls_listen of wsd dev with a certificate that it makes itself, on :8443 unless that is set. Browsers and clients must be told to trust it."`
	Rate        int      `key:"rate" def:"50" help:"Demo trades per second. 0: none."`
	Topics      []string `key:"topics" help:"Topics to create and serve in addition to trades and loadtest."`
	Stdin       string   `key:"stdin" help:"Topic that lines of standard input are written to, one record per line."`
}
