package main

import (
	"fmt"
	"net"
	"strconv"

	"wsd/internal/command"
	"wsd/internal/control"
)

// socket returns the path of the configured control socket, or else the default path for the configured client port.
func (o *options) socket(e env) (string, error) {
	loaded, err := o.load(e)
	if err != nil {
		return "", err
	}
	if path := loaded.Config.Control.Socket; path != "" {
		return path, nil
	}
	first := loaded.Config.Client.Addresses()[0]
	_, port, err := net.SplitHostPort(first)
	if err != nil {
		return "", fmt.Errorf("BUG: client.listen %q passed the checks", first)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n == 0 {
		return "", command.UsageError{Err: fmt.Errorf("client.listen is %s: port %s does not lead to a control "+
			"socket; set control.socket", first, port)}
	}
	return control.DefaultPath(n), nil
}
