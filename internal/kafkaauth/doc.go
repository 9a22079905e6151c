// Package kafkaauth has the SASL mechanisms with which wsd logs in to Kafka. All of them get their credentials anew for
// each login, so that passwords, tokens and keys can be replaced while wsd runs.
//
// PLAIN and SCRAM are kafka-go's, with a password that may change. OAUTHBEARER (KIP-255, RFC 7628) sends a token that
// comes from a file or from an HTTP endpoint (KIP-768). AWS MSK takes a token that AWS's own library signs with the
// credentials that AWS's SDK finds.
//
// Thread rule: any goroutine may use a mechanism. The package starts no goroutine.
package kafkaauth
