package main

import (
	"strings"

	"github.com/alecthomas/kong"
)

// page is one command of the command line as its user sees it: what completions and man pages are made from.
type page struct {
	words    string // The command, such as "wsd steer set".
	help     string
	usage    string
	commands []entry // Commands below it.
	flags    []entry // Flags that its help shows, without the two dashes.
}

// entry is a command below another one, or a flag.
type entry struct {
	name  string
	help  string
	group string   // Section of the help; empty for a command's own flags.
	value string   // Placeholder of the flag's value; empty if it takes none.
	enum  []string // The values that the flag may have, if they are few.
	short rune     // Its letter; 0: none.
}

// pages returns the visible commands of the command line, the program itself first, each before the commands below it.
func pages(model *kong.Application) []page {
	var list []page
	var walk func(*kong.Node)
	walk = func(n *kong.Node) {
		p := page{words: n.FullPath(), help: n.Help}
		p.usage = strings.TrimSpace("wsd " + strings.TrimPrefix(n.Summary(), "wsd"))
		for _, group := range n.AllFlags(true) {
			for _, f := range group {
				p.flags = append(p.flags, flagOf(f))
			}
		}
		var below []*kong.Node
		for _, child := range n.Children {
			if child.Type == kong.CommandNode && !child.Hidden {
				p.commands = append(p.commands, entry{name: child.Name, help: child.Help})
				below = append(below, child)
			}
		}
		list = append(list, p)
		for _, child := range below {
			walk(child)
		}
	}
	walk(model.Node)
	return list
}

func flagOf(f *kong.Flag) entry {
	e := entry{name: f.Name, help: f.Help, short: f.Short}
	if f.Group != nil {
		e.group = strings.TrimSuffix(f.Group.Title, ":")
	}
	if !f.IsBool() {
		e.value = f.FormatPlaceHolder()
	}
	if f.Enum != "" {
		e.enum = strings.Split(f.Enum, ",")
	}
	return e
}

// firstSentence returns the help without what follows its first sentence: lists of completions are narrow.
func firstSentence(help string) string {
	first, _, _ := strings.Cut(help, ". ")
	return strings.TrimSuffix(first, ".")
}
