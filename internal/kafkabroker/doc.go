// Package kafkabroker runs Apache Kafka on loopback: one broker or several, each in a process that is both broker and
// controller.
//
// It is for tests and for `make kafka`. Nothing that serves clients imports it. .ci/kafka-fetch puts the jars into a
// directory, which Options.Home names.
//
// Threads: one goroutine at a time uses a Cluster.
//
// A broker ends with the process that started it, even if that process is killed. The settings make tests quick: small
// heaps, one partition for each of Kafka's own topics, a cleaner and retention that run often, and failure detection
// within seconds.
package kafkabroker
