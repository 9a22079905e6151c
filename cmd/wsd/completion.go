package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints the completions for a shell.
func (c *completionCmd) Run(e env, parsed *kong.Context) error {
	write := map[string]func(io.Writer, []page) error{"bash": bash, "zsh": zsh, "fish": fish}[c.Shell]
	return write(e.stdout, pages(parsed.Model))
}

// paths returns the commands below the program, each quoted for a shell's case and separated as that shell wants.
func paths(list []page, separator string) string {
	var words []string
	for _, p := range list[1:] {
		words = append(words, "'"+p.words+"'")
	}
	return strings.Join(words, separator)
}

// bash writes completions that bash sources. They need nothing of the package bash-completion.
func bash(w io.Writer, list []page) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Completions of wsd for bash, made by `wsd completion bash`.\n\n"+
		"_wsd() {\n\tlocal word at=wsd words='' current=${COMP_WORDS[COMP_CWORD]}\n"+
		"\tfor word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"+
		"\t\tcase \"$at $word\" in\n\t\t%s) at=\"$at $word\" ;;\n"+
		"\t\tesac\n\tdone\n\tcase $at in\n", paths(list, "|"))
	for _, p := range list {
		var words []string
		for _, c := range p.commands {
			words = append(words, c.name)
		}
		for _, f := range p.flags {
			words = append(words, "--"+f.name)
		}
		fmt.Fprintf(&b, "\t'%s') words='%s' ;;\n", p.words, strings.Join(words, " "))
	}
	b.WriteString("\tesac\n" +
		"\t# Without a match bash offers files, which is what --config wants.\n" +
		"\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n}\n\ncomplete -o default -F _wsd wsd\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// zsh writes completions as a function that zsh finds as _wsd in its fpath.
func zsh(w io.Writer, list []page) error {
	item := func(name, help string) string {
		name = strings.ReplaceAll(name, ":", `\:`)
		return "'" + name + ":" + strings.ReplaceAll(firstSentence(help), "'", `'\''`) + "'"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef wsd\n# Completions of wsd for zsh, made by `wsd completion zsh`.\n\n"+
		"_wsd() {\n\tlocal word at=wsd\n\tlocal -a items\n\tfor word in ${words[2,CURRENT-1]}; do\n"+
		"\t\tcase \"$at $word\" in\n\t\t(%s) at=\"$at $word\" ;;\n\t\tesac\n\tdone\n\tcase $at in\n", paths(list, "|"))
	for _, p := range list {
		fmt.Fprintf(&b, "\t('%s') items=(\n", p.words)
		for _, c := range p.commands {
			fmt.Fprintf(&b, "\t\t%s\n", item(c.name, c.help))
		}
		for _, f := range p.flags {
			fmt.Fprintf(&b, "\t\t%s\n", item("--"+f.name, f.help))
		}
		b.WriteString("\t) ;;\n")
	}
	b.WriteString("\tesac\n\t_describe wsd items || _files\n}\n\n" +
		"if [ \"$funcstack[1]\" = _wsd ]; then\n\t_wsd \"$@\"\nelse\n\tcompdef _wsd wsd\nfi\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// fish writes completions that fish sources.
func fish(w io.Writer, list []page) error {
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Completions of wsd for fish, made by `wsd completion fish`.\n\n"+
		"function __wsd_at\n    set -l at wsd\n    for word in (commandline -opc)[2..]\n        switch \"$at $word\"\n"+
		"            case %s\n                set at \"$at $word\"\n        end\n    end\n"+
		"    test \"$at\" = \"$argv[1]\"\nend\n\ncomplete -c wsd -f\n", paths(list, " "))
	for _, p := range list {
		at := quote("__wsd_at " + quote(p.words))
		for _, c := range p.commands {
			fmt.Fprintf(&b, "complete -c wsd -n %s -a %s -d %s\n", at, c.name, quote(firstSentence(c.help)))
		}
		for _, f := range p.flags {
			fmt.Fprintf(&b, "complete -c wsd -n %s -l %s", at, f.name)
			if f.short != 0 {
				fmt.Fprintf(&b, " -s %c", f.short)
			}
			switch {
			case len(f.enum) > 0:
				fmt.Fprintf(&b, " -x -a %s", quote(strings.Join(f.enum, " ")))
			case strings.Contains(f.value, "FILE") || strings.Contains(f.value, "DIR"):
				b.WriteString(" -r -F")
			case f.value != "":
				b.WriteString(" -x")
			}
			fmt.Fprintf(&b, " -d %s\n", quote(firstSentence(f.help)))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
