package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"wsd/internal/command"
	"wsd/internal/explain"
)

type testRouteCmd struct {
	options
	Topic     string   `required:"" help:"Topic of the record."`
	Partition int32    `default:"0" help:"Partition of the record."`
	Key       *string  `help:"Key of the record. Default: none."`
	Header    []string `sep:"none" placeholder:"NAME=VALUE" help:"Header of the record; may be given several times."`
	Value     *string  `help:"Value of the record. Default: null."`
	JSON      bool     `name:"json" help:"Print JSON."`
}

// Run places one record. The exit code is 1 if the record cannot be placed.
func (c *testRouteCmd) Run(e env) error {
	loaded, err := c.load(e)
	if err != nil {
		return err
	}
	rec, err := c.record()
	if err != nil {
		return command.UsageError{Err: err}
	}
	out, err := explain.Place(&loaded.Config, rec)
	if err != nil {
		return command.UsageError{Err: err}
	}
	if c.JSON {
		encoder := json.NewEncoder(e.stdout)
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(out)
	} else {
		err = out.Print(e.stdout)
	}
	if err == nil && out.Unplaced {
		err = command.ErrReported
	}
	return err
}

func (c *testRouteCmd) record() (explain.Record, error) {
	rec := explain.Record{Topic: c.Topic, Partition: c.Partition, Key: c.Key, Value: c.Value}
	for _, h := range c.Header {
		name, value, ok := strings.Cut(h, "=")
		if !ok || name == "" {
			return rec, fmt.Errorf("--header %q is not NAME=VALUE", h)
		}
		rec.Headers = append(rec.Headers, [2]string{name, value})
	}
	return rec, nil
}
