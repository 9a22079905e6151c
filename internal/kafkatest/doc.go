// Package kafkatest gives a test a Kafka cluster: kfake in the test's process, or Apache Kafka as processes of its own,
// behind one type. It also encodes record batches that no producer would write (Batch).
//
// Apache Kafka needs its jars. The environment variable WSD_TEST_KAFKA names their directory, and `make test-kafka`
// sets it. Without it the test is skipped. If a test needs something that kfake cannot do, Cluster.Needs skips it with
// the reason.
//
// Threads: a Cluster belongs to the test's goroutine, except for Addrs, Client and Produce. Only tests import the
// package.
package kafkatest
