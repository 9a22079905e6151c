// Package kafkatest gives a test a Kafka: kfake in its own process, or Apache Kafka as processes of its own, behind one type.
//
// Apache Kafka is there where the environment variable WSD_TEST_KAFKA names its jars, which make test-kafka sets; elsewhere the test is
// skipped. What kfake cannot do skips a test by Cluster.Needs, with the reason.
//
// Thread rule: a Cluster belongs to the test's goroutine, except for Addrs, Client and Produce. Only tests import it.
package kafkatest
