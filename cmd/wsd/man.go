package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"wsd/internal/config"
)

type manCmd struct {
	Dir string `arg:"" help:"Directory to write to. It is made if it does not exist."`
}

// Run writes a man page for each command, and one for the configuration file.
func (c *manCmd) Run(_ env, parsed *kong.Context) error {
	//nolint:gosec // Everybody may read man pages.
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of the man pages: %w", err)
	}
	write := func(name string, text func(io.Writer)) error {
		var b strings.Builder
		text(&b)
		//nolint:gosec // Everybody may read man pages.
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(b.String()), 0o644); err != nil {
			return fmt.Errorf("write a man page: %w", err)
		}
		return nil
	}
	list := pages(parsed.Model)
	for _, p := range list {
		name := strings.ReplaceAll(p.words, " ", "-") + ".1"
		if err := write(name, func(w io.Writer) { manPage(w, p, list) }); err != nil {
			return err
		}
	}
	return write("wsd.yaml.5", manConfiguration)
}

// roff escapes text for a line of a man page (man(7)).
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n", " ").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

func manHead(w io.Writer, name, section, help string) {
	fmt.Fprintf(w, ".TH %q %s \"\" %q %q\n.SH NAME\n%s \\- %s\n", strings.ToUpper(name), section, "wsd "+version,
		"wsd", roff(name), roff(firstSentence(help)))
}

func manPage(w io.Writer, p page, all []page) {
	name := strings.ReplaceAll(p.words, " ", "-")
	manHead(w, name, "1", p.help)
	fmt.Fprintf(w, ".SH SYNOPSIS\n.B %s\n.SH DESCRIPTION\n%s\n", roff(p.usage), roff(p.help))
	if len(p.commands) > 0 {
		fmt.Fprint(w, ".SH COMMANDS\n")
		for _, c := range p.commands {
			fmt.Fprintf(w, ".TP\n.B %s\n%s\nSee\n.BR %s (1).\n", roff(p.words+" "+c.name), roff(c.help),
				roff(name+"-"+c.name))
		}
	}
	if len(p.flags) > 0 {
		fmt.Fprint(w, ".SH OPTIONS\n")
	}
	group := ""
	for _, f := range p.flags {
		if f.group != group {
			group = f.group
			fmt.Fprintf(w, ".SS %s\n", roff(group))
		}
		flag := "--" + f.name
		if f.short != 0 {
			flag = fmt.Sprintf("-%c, %s", f.short, flag)
		}
		if f.value != "" {
			flag += "=" + f.value
		}
		fmt.Fprintf(w, ".TP\n.B %s\n%s\n", roff(flag), roff(f.help))
	}
	fmt.Fprint(w, ".SH EXIT STATUS\n.TP\n.B 0\nSuccess.\n.TP\n.B 1\nThe command could not do what it was asked to, or "+
		"found a fault.\n.TP\n.B 2\nThe command line or the configuration is wrong.\n.SH SEE ALSO\n")
	for _, other := range all {
		below := strings.HasPrefix(other.words, p.words+" ")
		if other.words != p.words && (other.words == all[0].words || below) {
			fmt.Fprintf(w, ".BR %s (1),\n", roff(strings.ReplaceAll(other.words, " ", "-")))
		}
	}
	fmt.Fprint(w, ".BR wsd.yaml (5)\n")
}

// manConfiguration writes the page of the configuration file.
func manConfiguration(w io.Writer) {
	manHead(w, "wsd.yaml", "5", "configuration of wsd")
	fmt.Fprintf(w, ".SH DESCRIPTION\n%s\n.SH OPTIONS\n", roff("wsd reads "+config.DefaultFile+" if it exists, or the "+
		"file that --config names. Each option is a key of the file, an environment variable and a flag. A flag "+
		"counts before a variable, and a variable before the file. wsd config defaults prints a file with all."))
	for _, o := range config.Options() {
		help := o.Help
		if o.Default != "" && !strings.Contains(help, "Default:") {
			help += " Default: " + o.Default + "."
		}
		fmt.Fprintf(w, ".TP\n.B %s\n%s\n.br\n%s\n", roff(o.Key), roff(help),
			roff("Kind: "+o.Kind+". Variable: "+o.Env+". Flag: "+o.Flag+"."))
	}
	fmt.Fprint(w, ".SH SEE ALSO\n.BR wsd (1)\n")
}
