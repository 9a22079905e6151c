package kafkabroker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports are below those that the kernel gives to connections. So while a broker is down, no connection can take its
// port, or connect to itself there.
const (
	portMin  = 12_000
	portMax  = 32_000
	triesMax = 1000
)

// freePorts returns n ports of 127.0.0.1 on which nobody listens now.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range triesMax {
		port := portMin + rand.IntN(portMax-portMin)
		if free(port) == nil {
			ports = append(ports, port)
		}
		if len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("no free port: most ports from 12000 to 32000 are in use")
}

func free(port int) error {
	ln, err := net.Listen("tcp", address(port)) //nolint:noctx // It resolves no name and does not wait.
	if err != nil {
		return fmt.Errorf("port %d is not free: %w", port, err)
	}
	return ln.Close()
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
