package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"wsd/internal/config"
)

// cli is the grammar of the command line.
type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run the server: deliver records from a Kafka cluster to WebSocket clients."`
	Dev     devCmd     `cmd:"" help:"Run the server with a built-in Kafka and a demo feed, to try it out and for development."`
	Health  healthCmd  `cmd:"" help:"Show the health of the running wsd. Exit code 1 if it does not serve clients; a degraded wsd still does."`
	Top     topCmd     `cmd:"" help:"Show the running wsd: shards, busy channels, and clients for which bytes wait."`
	Clients clientsCmd `cmd:"" help:"Show clients of the running wsd."`

	Disconnect disconnectCmd `cmd:"" help:"Close the connections of a user, or one client."`

	Channels channelsCmd `cmd:"" help:"Show channels of the running wsd."`

	Steer   steerCmd   `cmd:"" help:"Show and change how the running wsd assigns new connections to shards."`
	Kafka   kafkaCmd   `cmd:"" help:"Act on what the running wsd reads from Kafka."`
	Topics  topicsCmd  `cmd:"" help:"Create the topics in Kafka that several machines need beside those that they read."`
	Drain   drainCmd   `cmd:"" help:"Close the clients of the running wsd at an even pace, so that they connect elsewhere."`
	Token   tokenCmd   `cmd:"" help:"Make a token for trying out, and check one."`
	Config  configCmd  `cmd:"" help:"Check and show the configuration."`
	Doctor  doctorCmd  `cmd:"" help:"Check whether this machine has what wsd needs. Exit code 1 if something is missing."`
	Version versionCmd `cmd:"" help:"Show the version."`

	Completion completionCmd `cmd:"" help:"Print the completions for a shell. To try them: source <(wsd completion bash)."`
	Man        manCmd        `cmd:"" hidden:"" help:"Write the man pages."`
}

func newCLI() *cli {
	c := &cli{}
	for _, o := range []*options{
		&c.Serve.options, &c.Dev.options, &c.Config.Check.options, &c.Config.Show.options,
		&c.Config.TestRoute.options, &c.Config.TestAccess.options, &c.Token.Make.options, &c.Token.Check.options,
		&c.Doctor.options, &c.Topics.Create.options,
	} {
		o.init()
	}
	// The others are accepted, too, but only these options say which wsd is meant.
	for _, o := range []*options{
		&c.Health.options, &c.Steer.options, &c.Kafka.options, &c.Drain.options, &c.Top.options, &c.Clients.options,
		&c.Channels.options, &c.Disconnect.options,
	} {
		o.init("client.listen", "client.tls_listen", "control.socket")
	}
	return c
}

// options are the options of wsd as flags. They are made from config.Options, so that none can be forgotten here.
type options struct {
	ConfigFile string `name:"config" placeholder:"FILE" help:"Configuration file. Default: /etc/wsd/wsd.yaml if it exists."`
	kong.Plugins

	// Pointer to a struct with a field for each option. The field is nil if the flag was not given.
	flags  reflect.Value
	fields map[string]string // Name of the field in flags, by key of the option.
}

// init makes the struct that kong fills. Its fields are pointers and slices, which stay nil unless their flag is given.
// The help shows the options whose keys are in shown, or all options if shown is empty.
func (o *options) init(shown ...string) {
	o.fields = make(map[string]string)
	var fields []reflect.StructField
	for i, option := range config.Options() {
		help := option.Help
		if option.Default != "" && !strings.Contains(help, "Default:") {
			help += " Default: " + option.Default + "."
		}
		tag := fmt.Sprintf("name:%q help:%q group:%q placeholder:%q", strings.TrimPrefix(option.Flag, "--"), help,
			groupOf(option),
			strings.ToUpper(option.Kind))
		if len(shown) > 0 && !slices.Contains(shown, option.Key) {
			tag += ` hidden:""`
		}
		name := fmt.Sprintf("Option%d", i)
		o.fields[option.Key] = name
		fields = append(fields, reflect.StructField{
			Name: name, Type: flagType(option), Tag: reflect.StructTag(tag),
		})
	}
	o.flags = reflect.New(reflect.StructOf(fields))
	o.Plugins = kong.Plugins{o.flags.Interface()}
}

func flagType(o config.Option) reflect.Type {
	switch {
	case o.List:
		return reflect.TypeFor[[]string]()
	case o.Kind == "bool":
		return reflect.TypeFor[*bool]()
	}
	return reflect.TypeFor[*string]()
}

// load reads the configuration from the command line, the environment and the file.
func (o *options) load(e env) (*config.Loaded, error) { return config.Load(o.input(e)) }

// loadToServe is load for a configuration that must name topics.
func (o *options) loadToServe(e env) (*config.Loaded, error) {
	in := o.input(e)
	in.NeedTopics = true
	return config.Load(in)
}

// input returns where the values of the configuration come from.
func (o *options) input(e env) config.Input {
	given := make(map[string]any)
	for key, name := range o.fields {
		field := o.flags.Elem().FieldByName(name)
		switch {
		case field.IsNil():
		case field.Kind() == reflect.Pointer:
			given[key] = field.Elem().Interface()
		default:
			given[key] = field.Interface()
		}
	}
	return config.Input{Flags: given, Environ: e.environ, File: o.ConfigFile, DefaultFile: config.DefaultFile}
}

// groups returns the sections of the help with their titles, in the order of the configuration.
func groups() []kong.Group {
	titles := map[string]string{
		"client": "Clients", "auth": "Identity of clients",
		"proxy": "Calls of the application's backend", "rpc": "Methods that clients call",
		"send":   "Messages that clients send",
		"limits": "Limits of a client", "admin": "Admin port", "control": "Control socket",
		"api": "Server API", "commands": "Commands between machines",
		"metrics": "Metrics", "health": "Health", "general": "General", "kafka": "Kafka",
		"overrides": "Header overrides", "steering": "Steering", "admission": "Admission",
		"bus": "Bus", "recovery": "Recovery", "publish": "Publishing", "shutdown": "Shutdown",
		"log": "Log", "debug": "Debug", "dev": "wsd dev",
	}
	var list []kong.Group
	seen := make(map[string]bool)
	for _, option := range config.Options() {
		if key := groupOf(option); !seen[key] {
			seen[key] = true
			if titles[key] == "" {
				panic("BUG: the section " + key + " of the help has no title")
			}
			list = append(list, kong.Group{Key: key, Title: titles[key] + ":"})
		}
	}
	return list
}

// groupOf returns the section of the help that lists an option.
func groupOf(option config.Option) string {
	section, _, nested := strings.Cut(option.Key, ".")
	if !nested {
		return "general"
	}
	return section
}

// dashes lets a flag be written like its key, such as --kafka.fetch_max_wait.
func dashes(args []string) []string {
	out := make([]string, len(args))
	for i, arg := range args {
		name, value, has := strings.Cut(arg, "=")
		if strings.HasPrefix(name, "--") && strings.Contains(name, ".") {
			name = strings.ReplaceAll(name, "_", "-")
		}
		out[i] = name
		if has {
			out[i] += "=" + value
		}
	}
	return out
}
