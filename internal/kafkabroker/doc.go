// Package kafkabroker runs Apache Kafka on loopback: one broker or several, each a process of its own that is broker and controller.
//
// It is for tests and for `make kafka`; nothing that serves clients imports it. The jars are those that .ci/kafka-fetch has put
// into a directory, which Options.Home names.
//
// Thread rule: a Cluster belongs to one goroutine at a time.
//
// A broker ends with the process that started it, also when that is killed. Settings are such that tests are quick: small heaps, one
// partition for each of Kafka's own topics, short waits of the cleaner and of retention, a broker that is gone is noticed after
// seconds.
package kafkabroker
