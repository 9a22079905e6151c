package serverstat

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// metricsMax bounds the answer of /metrics in bytes.
const metricsMax = 64 << 20

// Metrics are the samples of one look at /metrics: by name, and by name and label as in `name{label="value"}`, summed
// over the other labels.
type Metrics map[string]float64

// ReadMetrics asks the server whose admin port is at base, such as http://127.0.0.1:9000.
func ReadMetrics(ctx context.Context, base string) (Metrics, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	response, err := Get(ctx, base, "/metrics")
	if err != nil {
		return nil, fmt.Errorf("ask for the server's metrics: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask for the server's metrics: %s answers HTTP %s",
			response.Request.URL, response.Status)
	}
	m := Metrics{}
	lines := bufio.NewScanner(http.MaxBytesReader(nil, response.Body, metricsMax))
	for lines.Scan() {
		if err := m.add(lines.Text()); err != nil {
			return nil, fmt.Errorf("read the answer of %s: %w", response.Request.URL, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", response.Request.URL, err)
	}
	return m, nil
}

// add takes one line of the Prometheus text format. Label values with a comma, a brace or a quote are not known to it:
// wsd's labels have none.
func (m Metrics) add(line string) error {
	if line == "" || line[0] == '#' {
		return nil
	}
	series, number, ok := strings.Cut(line, "} ")
	if !ok {
		series, number, ok = strings.Cut(line, " ")
	}
	value, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil {
		return fmt.Errorf("line %q is no sample", line)
	}
	name, labels, _ := strings.Cut(series, "{")
	m[name] += value
	for label := range strings.SplitSeq(labels, ",") {
		if label != "" {
			m[name+"{"+label+"}"] += value
		}
	}
	return nil
}

// Values returns, of a metric with the label, the sum of each of its values.
func (m Metrics) Values(name, label string) map[string]int64 {
	values := map[string]int64{}
	for series, n := range m {
		if rest, ok := strings.CutPrefix(series, name+"{"+label+`="`); ok {
			values[strings.TrimSuffix(rest, `"}`)] = int64(n)
		}
	}
	return values
}
