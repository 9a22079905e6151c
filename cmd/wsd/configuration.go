package main

import (
	"fmt"

	"wsd/internal/config"
)

type configCmd struct {
	Check    configCheckCmd    `cmd:"" help:"Check the configuration; exit 2 and name every fault when it is wrong."`
	Defaults configDefaultsCmd `cmd:"" help:"Print a configuration file with every option, its meaning and its default."`
	Show     configShowCmd     `cmd:"" help:"Print the effective configuration and where each value comes from."`

	TestRoute testRouteCmd `cmd:"" help:"Print where a record would go by routes and overrides, and which rule says so; exit 1 when it has no place."`
}

type configCheckCmd struct {
	options
}

// Run checks.
func (c *configCheckCmd) Run(e env) error {
	loaded, err := c.load(e)
	if err != nil {
		return err
	}
	if err := loaded.Config.RequireTopics(); err != nil {
		return err
	}
	file := loaded.File
	if file == "" {
		file = "no file"
	}
	_, err = fmt.Fprintf(e.stdout, "the configuration is valid (%s)\n", file)
	return err
}

type configDefaultsCmd struct{}

// Run prints the defaults.
func (configDefaultsCmd) Run(e env) error { return config.Defaults(e.stdout) }

type configShowCmd struct {
	options
}

// Run shows.
func (c *configShowCmd) Run(e env) error {
	loaded, err := c.load(e)
	if err != nil {
		return err
	}
	return loaded.Show(e.stdout)
}
