package server

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"wsd/internal/testutil"
)

// examples returns the programs in the documentation, by name.
func examples(t testing.TB, doc string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + doc)
	require.NoError(t, err)
	list := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)<!-- example ([a-z_.]+) -->\n```[a-z]+\n(.*?)\n```\n").FindAllStringSubmatch(string(text), -1) {
		list[m[1]] = m[2] + "\n"
	}
	return list
}

// interpreters say what runs a program, by the end of its name.
var interpreters = map[string][]string{".py": {"python3"}, ".mjs": {"node"}, ".go": {"go", "run"}}

// exampleCommand returns the command that runs a program with arguments.
func exampleCommand(t *testing.T, name, program string, args ...string) *exec.Cmd {
	t.Helper()
	command := interpreters[filepath.Ext(name)]
	if _, err := exec.LookPath(command[0]); err != nil {
		t.Skip("this machine lacks " + command[0])
	}
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
	if command[0] == "go" { // Killing go run would leave the program.
		built := strings.TrimSuffix(file, ".go")
		out, err := exec.CommandContext(t.Context(), "go", "build", "-o", built, file).CombinedOutput()
		require.NoError(t, err, string(out))
		command, file = nil, built
	}
	args = append(append(command, file), args...)
	return exec.Command(args[0], args[1:]...) // The caller ends it, or it ends by itself.
}

// runExample runs a program until the test ends. It gets PORT, and further variables.
func runExample(t *testing.T, name, program string, environ ...string) *testutil.Buffer {
	t.Helper()
	log := &testutil.Buffer{}
	run := exampleCommand(t, name, program)
	run.Env = append(os.Environ(), environ...)
	run.Stdout, run.Stderr = log, log
	require.NoError(t, run.Start())
	t.Cleanup(func() {
		_ = run.Process.Kill()
		_ = run.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return log
}

// freePort returns a port that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

func awaitPort(t *testing.T, port string) {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, waitMax, 10*time.Millisecond, "the example listens")
}

// The backends in docs/backend.md do what it says.
func TestExampleAuthorises(t *testing.T) {
	programs := examples(t, "backend.md")
	for _, name := range []string{"authorise.py", "authorise.mjs", "authorise.go"} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, programs, name)
			port := freePort(t)
			runExample(t, name, programs[name], "PORT="+port)
			awaitPort(t, port)
			url := "http://127.0.0.1:" + port
			r := newRig(t, map[string]any{
				"auth.mode": "proxy", "auth.rules": []string{"room.*=proxy", "news=all"}, "proxy.connect_endpoint": url + "/connect",
				"proxy.subscribe_endpoint": url + "/subscribe", "proxy.headers": []string{"Cookie"}, "rpc.endpoint": []string{"*=" + url + "/rpc"},
				"proxy.timeout": "10s",
			})
			connect := func(cookie string) *client {
				conn, _, _, err := ws.Dialer{Header: ws.HandshakeHeaderHTTP(http.Header{"Cookie": {cookie}})}.Dial(
					t.Context(), "ws://"+r.server.Addresses()[0].String()+"/connection/websocket")
				require.NoError(t, err)
				t.Cleanup(func() { conn.Close() })
				c := &client{t: t, conn: conn, rw: conn}
				c.send(`{"id":1,"connect":{}}`)
				return c
			}
			bob := connect("theme=dark; session=s3cret-of-bob")
			require.Contains(t, bob.reply(), `"data":{"hello":"bob"}`)
			for channel, want := range map[string]string{"room.art": `"subscribe":{`, "room.math": `{"code":403,"message":"not a member"}`, "news": `"subscribe":{`, "other": `"code":103`} {
				require.Contains(t, bob.ask(fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q}}`, channel)), want, channel)
			}
			require.Equal(t, `{"id":3,"rpc":{"data":["room.art"]}}`, bob.ask(`{"id":3,"rpc":{"method":"rooms"}}`))
			require.Equal(t, `{"id":4,"error":{"code":404,"message":"no such method"}}`, bob.ask(`{"id":4,"rpc":{"method":"x"}}`))
			_, err := connect("session=guess").raw()
			require.Equal(t, 4501, closeCode(err))
		})
	}
}

// WSD_EXAMPLES names a directory with the packages that examples of clients need, as make test-examples leaves it:
// node_modules, venv and go.
const examplesVariable = "WSD_EXAMPLES"

// startChat runs a chat with the SDK of its language, in a room, as a user.
func startChat(t *testing.T, r *rig, name, program, user string) (say func(string), heard *testutil.Buffer) {
	t.Helper()
	packages := os.Getenv(examplesVariable)
	if packages == "" {
		t.Skip(examplesVariable + " is not set: make test-examples fetches the SDKs and runs this")
	}
	dir := filepath.Join(t.TempDir(), "chat")
	require.NoError(t, os.Mkdir(dir, 0o700))
	file := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
	var command []string
	switch filepath.Ext(name) {
	case ".mjs":
		require.NoError(t, os.Symlink(filepath.Join(packages, "node_modules"), filepath.Join(dir, "node_modules")))
		command = []string{"node", file}
	case ".py":
		command = []string{filepath.Join(packages, "venv/bin/python"), file}
	default:
		built := filepath.Join(dir, "chat")
		build := exec.CommandContext(t.Context(), "go", "build", "-o", built, file)
		build.Dir = filepath.Join(packages, "go")
		out, err := build.CombinedOutput()
		require.NoError(t, err, string(out))
		command = []string{built}
	}
	heard = &testutil.Buffer{}
	run := exec.Command(command[0], append(command[1:], "math")...) // Cleanup ends it.
	run.Env = append(os.Environ(), "TOKEN="+tokenFor(t, "sub", user),
		"WSD=ws://"+r.server.Addresses()[0].String()+"/connection/websocket")
	run.Stdout, run.Stderr = heard, heard
	in, err := run.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, run.Start())
	t.Cleanup(func() {
		_ = run.Process.Kill()
		_ = run.Wait()
		if t.Failed() {
			t.Log(name, heard.String())
		}
	})
	return func(text string) {
		_, err := fmt.Fprintln(in, text)
		require.NoError(t, err)
	}, heard
}

// The chats in docs/publish.md talk to each other, and say who said what.
func TestExampleChats(t *testing.T) {
	programs := examples(t, "publish.md")
	r := newRig(t, map[string]any{
		"kafka.topics": []string{"chat"}, "kafka.partitioner": "murmur2", "routes": []string{"chat=chat.{key}"}, "auth.mode": "token",
		"auth.hmac_secret": tokenSecret, "auth.rules": []string{"chat.*=user"}, "publish.rules": []string{"chat.*=user"},
	}, kfake.SeedTopics(2, "chat"))
	r.ready()
	says, hears := map[string]func(string){}, map[string]*testutil.Buffer{}
	for name, user := range map[string]string{"chat.mjs": "ada", "chat.py": "bob", "chat.go": "cleo"} {
		require.Contains(t, programs, name)
		says[user], hears[user] = startChat(t, r, name, programs[name], user)
	}
	for user := range says {
		r.eventually(user+" has joined", func() bool { return strings.Contains(hears[user].String(), "joined") })
	}
	for user, say := range says {
		say("hello from " + user)
		for other := range says {
			r.eventually(other+" hears "+user, func() bool {
				return strings.Contains(hears[other].String(), user+": hello from "+user)
			})
		}
	}
}

// The backends in docs/backend.md that push reach their user and nobody else, also one that the connect endpoint names.
func TestExamplePushes(t *testing.T) {
	programs := examples(t, "backend.md")
	f := newFake(t)
	f.Start()
	f.says("/connect", `{"result":{"user":"bob"}}`)
	r := newRig(t, map[string]any{
		"kafka.topics": []string{"users"}, "kafka.partitioner": "murmur2", "routes": []string{"users=user.{key}"}, "auth.mode": "token",
		"auth.hmac_secret": tokenSecret, "auth.user_channel": "user.{sub}", "api.keys": []string{apiKey}, "proxy.connect_endpoint": f.URL + "/connect",
		"client.ping_interval": "1h", // The clients are not read from while a program is built.
	}, kfake.SeedTopics(2, "users"))
	r.ready()
	ada, reply := r.login(tokenFor(t, "sub", "ada"))
	require.Contains(t, reply, `"subs":{"user.ada":{`)
	bob, reply := r.login("")
	require.Contains(t, reply, `"subs":{"user.bob":{`)
	for _, name := range []string{"push.py", "push.mjs", "push.go"} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, programs, name)
			ada.t, bob.t = t, t
			push := func(key, user, text string) (string, error) {
				run := exampleCommand(t, name, programs[name], user, text)
				run.Env = append(os.Environ(), "WSD_API=http://"+r.server.AdminAddress()+"/api", "WSD_API_KEY="+key)
				out, err := run.CombinedOutput()
				return string(out), err
			}
			out, err := push(apiKey, "ada", "by "+name)
			require.NoError(t, err, out)
			require.JSONEq(t, `{"text":"by `+name+`"}`, string(ada.publication().Push.Pub.Data))
			out, err = push(apiKey, "bob", "for bob")
			require.NoError(t, err, out)
			require.JSONEq(t, `{"text":"for bob"}`, string(bob.publication().Push.Pub.Data))
			_, err = push("wrong", "ada", "x")
			require.Error(t, err)
		})
	}
}
