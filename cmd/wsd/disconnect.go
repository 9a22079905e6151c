package main

import (
	"context"
	"fmt"

	"wsd/internal/control"
	"wsd/internal/routing"
)

// disconnectCmd talks to a running wsd over its control socket.
type disconnectCmd struct {
	options
	Who    string `arg:"" name:"user|client" help:"User whose connections are closed, or id of one client, as wsd clients prints it."`
	User   bool   `help:"Take the argument for a user, even if it looks like the id of a client."`
	Code   int    `default:"3503" help:"Code of the close frame, 3000 to 4999; 3000 sends none. SDKs reconnect by themselves after 3000 to 3499 and 4000 to 4499."`
	Reason string `help:"Text of the close frame, at most 123 bytes."`
	JSON   bool   `help:"Print the response as JSON."`
}

// Help explains what is closed.
func (disconnectCmd) Help() string {
	return "With commands.topic the connections of the user at all machines are closed, otherwise those at this wsd. " +
		"Whoever has a valid token may come back."
}

// Run closes connections of the running wsd.
func (c *disconnectCmd) Run(e env) error {
	path, err := c.socket(e)
	if err != nil {
		return err
	}
	request := control.DisconnectRequest{Code: c.Code, Reason: c.Reason}
	what := fmt.Sprintf("connections of user %q", c.Who)
	if _, isClient := routing.ParseClientID([]byte(c.Who)); isClient && !c.User {
		request.Client, what = c.Who, "client "+c.Who
	} else {
		request.User = c.Who
	}
	result, err := control.Disconnect(context.Background(), path, request)
	if err != nil {
		return steerError(err)
	}
	if c.JSON {
		return printJSON(e.stdout, result)
	}
	where := "this wsd has closed"
	if result.Scope != "node" {
		where = "each wsd that reads commands.topic closes, as soon as it has read this,"
	}
	_, err = fmt.Fprintf(e.stdout, "%s %s, if it had any\n", where, what)
	return err
}
