package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"wsd/internal/command"
	"wsd/internal/control"
)

// clientsCmd talks to a running wsd over its control socket.
type clientsCmd struct {
	options
	Client  string `placeholder:"ID" help:"Only the client with this id, with its channels and their positions. Its connect reply has the id."`
	User    string `placeholder:"NAME" help:"Only connections of this user."`
	Channel string `placeholder:"NAME" help:"Only clients of this channel."`
	Waiting bool   `help:"Only clients for which bytes wait."`
	Max     int    `default:"100" help:"How many to print, 1 to 1000."`
	JSON    bool   `help:"Print the response as JSON."`
}

// Help explains the columns.
func (clientsCmd) Help() string {
	return "WAITING is the number of bytes that are to be sent to the client; those with the most come first. STATE: " +
		"blocked if its socket takes no more for now, behind if more than half of client.outbound_max waits."
}

// Run prints the clients of the running wsd.
func (c *clientsCmd) Run(e env) error {
	if err := checkMax(c.Max); err != nil {
		return err
	}
	path, err := c.socket(e)
	if err != nil {
		return err
	}
	state, err := control.Clients(context.Background(), path, control.ClientsQuery{
		Client: c.Client, User: c.User, Channel: c.Channel, Waiting: c.Waiting, Max: c.Max,
	})
	if err != nil {
		return steerError(err)
	}
	if c.JSON {
		return printJSON(e.stdout, state)
	}
	if err := printClients(e.stdout, state.Clients); err != nil {
		return err
	}
	if c.Client != "" && len(state.Clients) == 0 {
		fmt.Fprintln(e.stdout, "The client has gone.")
	}
	for _, client := range state.Clients {
		if c.Client == "" {
			break
		}
		fmt.Fprintln(e.stdout)
		table := columns(e.stdout)
		fmt.Fprintln(table, "CHANNEL\tOFFSET\tEPOCH\tBY")
		for _, sub := range client.Subscribed {
			by := "client"
			if sub.Server {
				by = "server"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", strconv.QuoteToGraphic(sub.Channel), dash(sub.Offset),
				orDash(sub.Epoch), by)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	printMore(e.stdout, len(state.Clients), state.Total, state.AtLeast, "clients", state.Unheard)
	return nil
}

// channelsCmd talks to a running wsd over its control socket.
type channelsCmd struct {
	options
	Prefix  string `placeholder:"TEXT" help:"Only channels whose name begins so."`
	Traffic bool   `help:"Those with the most deliveries first. Otherwise those with the most subscribers."`
	Max     int    `default:"100" help:"How many to print, 1 to 1000."`
	JSON    bool   `help:"Print the response as JSON."`
}

// Help explains the columns.
func (channelsCmd) Help() string {
	return "Only channels with subscribers are printed. RECORDS came since a channel has had subscribers; DELIVERIES " +
		"are these, times the subscribers that there were. With several shards, each proposes its first 1,000 " +
		"channels: one that is nowhere among them is left out, however many subscribers all shards together have."
}

// Run prints the channels of the running wsd.
func (c *channelsCmd) Run(e env) error {
	if err := checkMax(c.Max); err != nil {
		return err
	}
	path, err := c.socket(e)
	if err != nil {
		return err
	}
	state, err := control.Channels(context.Background(), path, control.ChannelsQuery{
		Prefix: c.Prefix, ByTraffic: c.Traffic, Max: c.Max,
	})
	if err != nil {
		return steerError(err)
	}
	if c.JSON {
		return printJSON(e.stdout, state)
	}
	table := columns(e.stdout)
	fmt.Fprintln(table, "CHANNEL\tSUBSCRIBERS\tSHARDS\tRECORDS\tDELIVERIES")
	for _, channel := range state.Channels {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\n", strconv.QuoteToGraphic(channel.Channel), channel.Subscribers,
			channel.Shards, channel.Records, channel.Deliveries)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	printMore(e.stdout, len(state.Channels), state.Total, state.AtLeast, "channels", state.Unheard)
	return nil
}

func checkMax(n int) error {
	if n < 1 || n > control.SurveyMax {
		return command.UsageError{Err: fmt.Errorf("--max %d must be from 1 to %d", n, control.SurveyMax)}
	}
	return nil
}

func columns(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// printClients prints a table. What clients chose, such as their user, is quoted: it may hold anything.
func printClients(w io.Writer, list []control.ClientState) error {
	table := columns(w)
	fmt.Fprintln(table, "CLIENT\tSHARD\tADDRESS\tUSER\tDIALECT\tCHANNELS\tWAITING\tSTATE")
	for _, c := range list {
		dialect := c.Dialect
		if c.TLS {
			dialect += "+tls"
		}
		state := "ok"
		switch {
		case c.Behind:
			state = "behind"
		case c.Blocked:
			state = "blocked"
		}
		user := "-"
		if c.User != "" {
			user = strconv.QuoteToGraphic(c.User)
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%d\t%d\t%s\n", c.Client, c.Shard, c.Address, user, dialect, c.Channels,
			c.WaitingBytes, state)
	}
	return table.Flush()
}

// printMore says what a table leaves out.
func printMore(w io.Writer, printed, total int, atLeast bool, what string, unheard control.Unheard) {
	if total > printed {
		least := ""
		if atLeast {
			least = "at least "
		}
		fmt.Fprintf(w, "and %s%d more %s: see --max\n", least, total-printed, what)
	}
	for _, line := range unheardLines(unheard) {
		fmt.Fprintln(w, line)
	}
}

// unheardLines says which shards gave no answer, and why.
func unheardLines(u control.Unheard) (lines []string) {
	if len(u.Missing) > 0 {
		lines = append(lines, fmt.Sprintf("no answer from shards %v in time: they are in a long turn, or wsd is "+
			"stopping", u.Missing))
	}
	if len(u.Busy) > 0 {
		lines = append(lines, fmt.Sprintf("shards %v are asked too much at the same time, by this command and by "+
			"pages: try again", u.Busy))
	}
	return lines
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func dash(n uint64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(n, 10)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
