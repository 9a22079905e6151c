package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rule says what a package's own code may import beside the standard library.
// Its tests may import more.
type rule struct {
	own     []string // packages below internal/
	outside []string // module paths, with everything below them
}

const (
	unix       = "golang.org/x/sys/unix"
	ebpf       = "github.com/cilium/ebpf"
	ants       = "github.com/panjf2000/ants/v2"
	flate      = "github.com/klauspost/compress/flate"
	kafkaGo    = "github.com/segmentio/kafka-go"
	franzGo    = "github.com/twmb/franz-go"
	kong       = "github.com/alecthomas/kong"
	gjson      = "github.com/tidwall/gjson"
	kmsg       = "github.com/twmb/franz-go/pkg/kmsg"
	prometheus = "github.com/prometheus/client_golang"
	centrifuge = "github.com/centrifugal/protocol"
)

// all marks the one package that builds everything.
const all = "*"

// rules is the architecture: a package knows the layer below it, the data
// plane never knows the control plane, and only server sees both.
var rules = map[string]rule{
	"stats":        {},
	"shrink":       {},
	"routing":      {own: []string{"shrink"}},
	"route":        {own: []string{"kafka", "routing"}, outside: []string{gjson}},
	"wire":         {outside: []string{"github.com/gobwas/ws", "github.com/gobwas/httphead"}},
	"deflate":      {outside: []string{ants, flate}},
	"proto":        {own: []string{"routing"}, outside: []string{centrifuge}},
	"bus":          {own: []string{"routing", "stats"}},
	"epoll":        {outside: []string{unix}},
	"listen":       {outside: []string{"github.com/libp2p/go-reuseport", unix}},
	"steering":     {own: []string{"routing", "host", "dirlock"}, outside: []string{ebpf, unix}},
	"auth":         {outside: []string{"github.com/golang-jwt/jwt/v5", "github.com/MicahParks/keyfunc/v3"}},
	"rules":        {},
	"origin":       {},
	"forwarded":    {outside: []string{"github.com/pires/go-proxyproto"}},
	"proxy":        {own: []string{"proto", "stats"}},
	"cgroup":       {},
	"tlsrecord":    {outside: []string{"golang.org/x/crypto/chacha20poly1305"}},
	"tlshandshake": {own: []string{"tlsrecord", "stats"}},
	"explain":      {own: []string{"config", "route"}},
	"admission":    {own: []string{"cgroup", "stats"}, outside: []string{unix}},
	"shard":        {own: []string{"epoll", "forwarded", "wire", "proto", "bus", "routing", "shrink", "stats", "tlshandshake", "tlsrecord"}, outside: []string{centrifuge, "github.com/gobwas/ws", unix}},
	"kafka":        {own: []string{"epoll"}, outside: []string{kafkaGo, kmsg, "github.com/klauspost/compress"}}, // Its sockets make epoll's raw calls.
	"source":       {own: []string{"bus", "kafka", "route", "routing", "proto", "stats", "throttle"}, outside: []string{kafkaGo, kmsg}},
	"recovery":     {own: []string{"source", "bus", "shrink", "stats"}},
	"control":      {own: []string{"dirlock", "httpserve"}},
	"tlsconn":      {own: []string{"epoll"}, outside: []string{ants}},
	"doctor":       {own: []string{"cgroup", "host", "steering"}, outside: []string{unix}},
	"host":         {},
	"privilege":    {own: []string{"host"}, outside: []string{unix}},
	"dirlock":      {outside: []string{unix}},
	"httpserve":    {},
	"command":      {outside: []string{kong, unix}},
	"handover":     {outside: []string{unix}},
	"reload":       {},
	"produce":      {own: []string{"stats", "throttle"}, outside: []string{franzGo, kafkaGo}},
	"publish":      {own: []string{"produce", "proto", "route"}},
	"kafkaauth":    {outside: []string{kafkaGo, "github.com/aws/aws-sdk-go-v2", "github.com/aws/aws-msk-iam-sasl-signer-go", "golang.org/x/oauth2"}},
	"config":       {own: []string{"auth", "origin", "reload", "route", "rules", "apikey"}, outside: []string{"go.yaml.in/yaml/v3"}},
	"metrics":      {own: []string{"auth", "kafka", "recovery", "route", "routing", "stats", "tlshandshake", "bus", "deflate", "shard", "source", "steering", "admission", "produce", "api", "commands", "proxy"}, outside: []string{prometheus, "github.com/prometheus/client_model"}},
	"apikey":       {},
	"throttle":     {},
	"api":          {own: []string{"apikey", "commands", "proto", "throttle"}},
	"commands":     {own: []string{"produce", "throttle"}, outside: []string{franzGo}},
	"admin":        {own: []string{"httpserve"}},
	"dev":          {outside: []string{franzGo}},
	"server":       {own: []string{all}, outside: []string{kafkaGo, unix, "golang.org/x/sync/semaphore"}},
	// Apache Kafka for tests, and kfake beside it.
	"kafkabroker":     {outside: []string{franzGo}},
	"kafkabroker/run": {own: []string{"kafkabroker"}},
	"kafkatest":       {own: []string{"kafkabroker"}, outside: []string{franzGo, kafkaGo, "github.com/stretchr/testify"}},
	"testutil":        {outside: []string{unix, "github.com/stretchr/testify"}},
	"tidy":            {},

	"../cmd/wsd":             {own: []string{"auth", "cgroup", "command", "config", "reload", "route", "routing", "rules", "server", "control", "dev", "doctor", "explain"}, outside: []string{kong, unix}},
	"../loadtest":            {own: []string{"command", "epoll"}, outside: []string{kong, "github.com/HdrHistogram/hdrhistogram-go", unix}},
	"../loadtest/client":     {own: []string{"wire", "epoll"}, outside: []string{centrifuge, "github.com/gobwas/ws", "github.com/HdrHistogram/hdrhistogram-go", unix}},
	"../loadtest/publishing": {outside: []string{"github.com/gobwas/ws", "github.com/HdrHistogram/hdrhistogram-go", franzGo}},
	"../loadtest/producer":   {outside: []string{kafkaGo}},
	"../loadtest/report":     {outside: []string{"github.com/HdrHistogram/hdrhistogram-go"}},
	"../loadtest/serverstat": {outside: []string{unix}},
	"../loadtest/baseline":   {own: []string{"command", "httpserve"}, outside: []string{kong, prometheus, unix}},
	"../loadtest/plantable":  {own: []string{"command"}, outside: []string{kong, "github.com/HdrHistogram/hdrhistogram-go", "github.com/twmb/franz-go/pkg/kfake", unix}},

	"../loadtest/baseline/balancer": {own: []string{"wire"}, outside: []string{unix}},
	"../loadtest/baseline/bus":      {outside: []string{unix}},
	"../loadtest/baseline/cpu":      {own: []string{"cgroup"}},
	"../loadtest/baseline/intake":   {outside: []string{franzGo}},
	"../loadtest/baseline/shard":    {own: []string{"wire", "httpserve"}, outside: []string{"github.com/gobwas/ws", ants, unix}},
	"../loadtest/baseline/shm":      {outside: []string{unix}},

	"../loadtest/floor":     {},
	"../loadtest/stall":     {},
	"../loadtest/child":     {outside: []string{unix}},
	"../loadtest/reference": {outside: []string{"github.com/gobwas/ws", franzGo, unix}},

	"../loadtest/workers": {own: []string{"epoll", "wire"}, outside: []string{unix}},
	"../loadtest/kafka":   {outside: []string{"github.com/twmb/franz-go/pkg/kfake"}},
	"../deploy/pictures":  {},
	"../deploy/sbom":      {},
	"..":                  {}, // gen.go
}

// forTests are the packages that only tests import.
var forTests = []string{"testutil", "kafkatest"}

func TestImports(t *testing.T) {
	for _, name := range files(t) {
		if filepath.Ext(name) != ".go" {
			continue
		}
		pkg := packageOf(name)
		isTest := strings.HasSuffix(name, "_test.go")
		r, known := rules[pkg]
		if !known {
			t.Errorf("%s: package %s has no rule: add it to the table with what it may import", name, pkg)
			continue
		}
		for _, imported := range imports(t, name) {
			own, isOwn := strings.CutPrefix(imported, "wsd/internal/")
			switch {
			case slices.Contains(forTests, own) && !isTest:
				t.Errorf("%s imports %s, which is for tests", name, own)
			case isTest:
			case isOwn:
				if !slices.Contains(r.own, own) && !slices.Contains(r.own, all) {
					t.Errorf("%s: %s may not import %s", name, pkg, own)
				}
			case strings.HasPrefix(imported, "wsd/"):
				// A command's own packages below it; the commands of loadtest share theirs.
				if !strings.HasPrefix(imported, path.Join("wsd", path.Dir(name))+"/") &&
					(!strings.HasPrefix(name, "loadtest/") || !strings.HasPrefix(imported, "wsd/loadtest/")) {
					t.Errorf("%s: %s may not import %s", name, pkg, imported)
				}
			case standard(imported):
			default:
				if !slices.ContainsFunc(r.outside, func(m string) bool {
					return imported == m || strings.HasPrefix(imported, m+"/")
				}) {
					t.Errorf("%s: %s may not import %s", name, pkg, imported)
				}
			}
		}
	}
}

// The data plane does not block on a network call that is not its own, and
// parses no text for people.
func TestDataPlaneImports(t *testing.T) {
	banned := []string{"net", "net/http", "log", "encoding/json", "fmt"}
	allowed := map[string][]string{
		// Errors and options carry values; nothing per message does.
		"fmt": {"routing", "wire", "proto", "bus", "epoll", "shard"},
	}
	for _, name := range files(t) {
		pkg := packageOf(name)
		if filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") ||
			!slices.Contains([]string{"routing", "bus", "epoll", "shard"}, pkg) {
			continue
		}
		for _, imported := range imports(t, name) {
			if slices.Contains(banned, imported) && !slices.Contains(allowed[imported], pkg) {
				t.Errorf("%s: %s is on the data path and may not import %s", name, pkg, imported)
			}
		}
	}
}

// What the shard takes from these two are names: error numbers and opcodes. The
// calls are epoll's, so that a test can replace them, and the framing is wire's.
func TestShardTakesOnlyNames(t *testing.T) {
	names := map[string]*regexp.Regexp{
		"unix": regexp.MustCompile(`^(E[A-Z0-9]+|Errno)$`),
		"ws":   regexp.MustCompile(`^Op[A-Z][a-zA-Z]+$`),
	}
	for _, name := range files(t) {
		if packageOf(name) != "shard" || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, 0)
		require.NoError(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if pkg, ok := sel.X.(*ast.Ident); ok && names[pkg.Name] != nil && !names[pkg.Name].MatchString(sel.Sel.Name) {
					t.Errorf("%s uses %s.%s, which belongs into epoll or wire", name, pkg.Name, sel.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestNoGoBesideBPF(t *testing.T) {
	for _, name := range files(t) {
		if strings.HasPrefix(name, "bpf/") && filepath.Ext(name) == ".go" {
			t.Errorf("%s: bpf/ holds no Go", name)
		}
	}
}

// packageOf names a file's package as the table does: relative to internal/.
func packageOf(name string) string {
	dir := path.Dir(name)
	if pkg, ok := strings.CutPrefix(dir, "internal/"); ok {
		return pkg
	}
	return path.Join("..", dir)
}

// standard packages have no dot in the first part of their path.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

func imports(tb testing.TB, name string) []string {
	tb.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ImportsOnly)
	require.NoError(tb, err)
	var list []string
	for _, spec := range f.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		require.NoError(tb, err)
		list = append(list, p)
	}
	return list
}
