package tidy

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// takesWallTime takes the monotonic reading away from a time, or makes a time without one. Round is among what does so
// too, but is mostly called on durations.
var takesWallTime = regexp.MustCompile(
	`\.(?:Unix|UnixMilli|UnixMicro|UnixNano|UTC|Local)\(\)|\btime\.(?:Unix|UnixMilli|UnixMicro|Date)\(|\.(?:In|Truncate)\(|\.Round\(0\)`)

// wallTimes are the lines that may deal in wall time, because they tell people or Kafka of it, or hear of it.
var wallTimes = []string{
	"internal/config/check.go isTime && t.Unix() > 0",                  // kafka.start.
	"internal/source/offsets.go return st.Time.UnixMilli()",            // The same, asked of the broker.
	"internal/metrics/drain.go return float64(t.UnixMilli())",          // A gauge.
	"internal/kafka/record.go return time.UnixMilli(r.Millis)",         // A record's timestamp.
	"internal/bus/builder.go ts.UnixMilli(), r.Offset",                 // The same.
	"internal/shard/latency.go l.at.UnixNano() - st.Millis*",           // How old a record is, by its timestamp.
	"deploy/pictures/main.go time.Now().Truncate(time.Second)",         // For Prometheus.
	"deploy/pictures/query.go float64(p.begin.Unix())",                 // The same.
	"internal/source/lag.go now.Sub(time.UnixMilli(millis))",           // The same.
	"internal/shard/recover.go Add(-d.Age).UnixMilli()",                // To be compared with records' timestamps.
	"internal/dev/trades.go now.UTC().Format(",                         // In the demo's records.
	"internal/metrics/tls.go CertificateExpires().Unix()",              // What a certificate says.
	"internal/auth/claims.go jwt.NewNumericDate(time.Unix(",            // What a token says; Verify makes a deadline of it once.
	"internal/proxy/decode.go d.now.Add(time.Unix(",                    // What a backend says; a deadline is made of it at once.
	"internal/auth/claims.go expireAt.Unix() != 0",                     // The same.
	"cmd/wsd/token.go \"iat\": time.Now().Unix()",                      // In a token, for others to read.
	"cmd/wsd/token.go time.Now().Add(c.TTL).Unix()",                    // The same.
	"cmd/wsd/token.go c.ExpireAt.UTC().Format(time.RFC3339)",           // For people.
	"internal/commands/locate.go ListOffsetsAfterMilli(",               // Asked of the broker.
	"internal/server/commands.go time.Until(time.Unix(",                // What a command says; a deadline is made of it.
	"internal/server/tls.go at.UTC().Format(time.RFC3339)",             // The same.
	"internal/doctor/certificates.go NotAfter.UTC().Format(",           // The same.
	"internal/doctor/certificates.go NotBefore.UTC().Format(",          // The same.
	"internal/epoll/poller.go past = time.Unix(1, 0)",                  // Any time in the past.
	"internal/recovery/block.go deadline.Sub(deadlineOrigin).Truncate", // Of a duration.
}

// The wall clock may be stepped by an hour at any time. So nothing that is a duration, a deadline or a rate goes by it:
// such times keep the monotonic reading of time.Now, and those that goroutines share are a stats.Moment.
func TestDurationsUseNoWallTime(t *testing.T) {
	for _, name := range files(t) {
		if filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "internal/kafkatest/") ||
			strings.HasPrefix(name, "loadtest/") {
			continue
		}
		for line := range strings.SplitSeq(string(content(t, name)), "\n") {
			code, _, _ := strings.Cut(line, "//")
			if takesWallTime.MatchString(code) && !slices.ContainsFunc(wallTimes, func(known string) bool {
				file, text, _ := strings.Cut(known, " ")
				return file == name && strings.Contains(code, text)
			}) {
				t.Errorf("%s: %s: a time without a monotonic reading; see stats.Moment", name, strings.TrimSpace(line))
			}
		}
	}
}
