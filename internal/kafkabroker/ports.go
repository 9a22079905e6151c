package kafkabroker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports that are tried lie below those that the kernel gives to connections: while a broker is down, none of these can take its
// port, nor connect to itself there.
const (
	portMin  = 12_000
	portMax  = 32_000
	triesMax = 1000
)

// freePorts returns n ports of 127.0.0.1 that nobody listens on now.
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
	return nil, errors.New("there is no free port: most of 12000 to 32000 are in use")
}

func free(port int) error {
	ln, err := net.Listen("tcp", address(port)) //nolint:noctx // It looks nothing up and does not wait.
	if err != nil {
		return fmt.Errorf("port %d is not free: %w", port, err)
	}
	return ln.Close()
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
