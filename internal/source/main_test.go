package source

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if size := os.Getenv(benchBrokerEnv); size != "" {
		runBenchBroker(size)
		return
	}
	goleak.VerifyTestMain(m)
}
