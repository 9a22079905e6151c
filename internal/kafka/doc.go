// Package kafka speaks Kafka's protocol: connections, requests, authentication, record batches.
package kafka
