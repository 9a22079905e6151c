package main

import (
	"fmt"
	"slices"
	"strings"
)

// optimisation is one switch.
type optimisation struct {
	Number int
	Name   string // What it is called in tables.
	Help   string // What it changes.
}

// optimisations are all of the plan, by their number.
var optimisations = []optimisation{
	{1, "central CPU check", "the main process reads the cgroup every 100 ms and shards look at its flag"},
	{2, "sampled CPU check", "a shard reads the cgroup at most once in 100 ms"},
	{3, "Kafka batches", "a consumer handles up to 100 records at a time"},
	{4, "bus batches", "up to 10 messages, or those of 10 ms, go to the shards in one write"},
	{5, "shared Kafka pool", "three consumers in the main process read Kafka for all shards"},
	{6, "routed messages", "a message goes only to shards with a subscriber of its channel"},
	{7, "unix sockets", "the load balancer reaches the shards by unix sockets"},
	{8, "goroutine pool", "connections are jobs of an ants pool, and writing is one only while there is " +
		"something to write"},
	{9, "Kafka shards", "one shard (two of five or more) reads Kafka and has no clients; the others have clients only"},
	{10, "shared ring", "a message is written once, into shared memory, and all shards read it there"},
	{11, "direct connections", "the load balancer names a shard, and the client connects to its own port"},
}

// opts is which of them are on.
type opts [12]bool

// parseOpts reads the numbers of --opt.
func parseOpts(numbers []int, all bool) (o opts, err error) {
	for _, n := range numbers {
		if n < 1 || n >= len(o) {
			return o, fmt.Errorf("--opt %d: must be between 1 and %d, see --help", n, len(o)-1)
		}
		o[n] = true
	}
	if all {
		if len(numbers) > 0 {
			return o, fmt.Errorf("--all and --opt exclude each other: leave one out")
		}
		for n := 1; n < len(o); n++ {
			o[n] = true
		}
	}
	return o, nil
}

// numbers lists those that are on.
func (o opts) numbers() []int {
	list := []int{}
	for n, on := range o {
		if on {
			list = append(list, n)
		}
	}
	return list
}

// optHelp lists all for --help.
func optHelp() string {
	var b strings.Builder
	for i, o := range optimisations {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%d %s: %s", o.Number, o.Name, o.Help)
	}
	return b.String()
}

// The processes that consume and the shards that have clients follow from the switches.
type roles struct {
	kafkaShards int    // Shards without clients, the last ones.
	targets     uint64 // Shards with clients, a bit each.
	inShard     int    // Consumers in each shard that consumes.
	inMain      int    // Consumers in the main process.
	publishers  []int  // Numbers of the processes that consume.
}

// poolConsumers is the size of the shared pool: the plan says two or three.
const poolConsumers = 3

func (o opts) roles(shards, main int) (r roles) {
	r.inShard = 1
	if o[9] {
		r.kafkaShards = 1
		if shards >= 5 {
			r.kafkaShards = 2
		}
		if o[5] { // The pool then is in the Kafka shards.
			r.inShard = (poolConsumers + r.kafkaShards - 1) / r.kafkaShards
		}
	} else if o[5] {
		r.inShard, r.inMain = 0, poolConsumers
	}
	r.targets = ^uint64(0) >> (64 - (shards - r.kafkaShards))
	for i := range shards {
		if r.consumers(i) > 0 {
			r.publishers = append(r.publishers, i)
		}
	}
	if r.inMain > 0 {
		r.publishers = append(slices.Clip(r.publishers), main)
	}
	return r
}

// hasClients reports whether a shard has clients.
func (r *roles) hasClients(shard int) bool { return r.targets&(1<<shard) != 0 }

// consumers is the number of Kafka consumers in a shard.
func (r *roles) consumers(shard int) int {
	if r.kafkaShards > 0 && r.hasClients(shard) {
		return 0
	}
	return r.inShard
}
