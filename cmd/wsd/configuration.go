package main

import (
	"fmt"

	"wsd/internal/config"
)

type configCmd struct {
	Check    configCheckCmd    `cmd:"" help:"Check the configuration. If it is wrong, list the faults and exit with code 2."`
	Defaults configDefaultsCmd `cmd:"" help:"Print a configuration file with every option, its documentation and its default."`
	Show     configShowCmd     `cmd:"" help:"Print the effective configuration, and where each value comes from."`

	TestAccess testAccessCmd `cmd:"" help:"Print whether a client with a token may have a channel, and which rule decides. Exit code 1 if not."`

	TestRoute testRouteCmd `cmd:"" help:"Print where the routes and overrides would send a record, and which rule decides. Exit code 1 if they cannot place it."`
}

type configCheckCmd struct {
	options
}

// Run checks the configuration.
func (c *configCheckCmd) Run(e env) error {
	loaded, err := c.loadToServe(e)
	if err != nil {
		return err
	}
	file := loaded.File
	if file == "" {
		file = "no file"
	}
	for _, w := range loaded.Warnings {
		if _, err := fmt.Fprintf(e.stdout, "warning: %s\n", w); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(e.stdout, "the configuration is valid (%s)\n", file)
	return err
}

type configDefaultsCmd struct{}

// Run prints the default configuration.
func (configDefaultsCmd) Run(e env) error { return config.Defaults(e.stdout) }

type configShowCmd struct {
	options
}

// Run prints the effective configuration.
func (c *configShowCmd) Run(e env) error {
	loaded, err := c.load(e)
	if err != nil {
		return err
	}
	return loaded.Show(e.stdout)
}
