package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"wsd/internal/auth"
	"wsd/internal/command"
	"wsd/internal/rules"
	"wsd/internal/server"
)

type testAccessCmd struct {
	options
	Channel           string `arg:"" help:"The channel."`
	Token             string `help:"Connection token of the client; - reads it from standard input. Default: none."`
	SubscriptionToken string `help:"Subscription token that the client shows for the channel. Default: none."`
	JSON              bool   `name:"json" help:"Print JSON."`
}

// access is whether a client may have a channel, in the form in which it is printed.
type access struct {
	Allowed bool   `json:"allowed"`        // Whether the client may subscribe to the channel, recover it and read its history.
	Rule    *int   `json:"rule,omitempty"` // Index in auth.rules of the rule that decided.
	Text    string `json:"text,omitempty"` // That rule.
	Why     string `json:"why"`            // Why.
}

// Run answers for one channel and one client. The exit code is 1 if it may not have the channel.
func (c *testAccessCmd) Run(e env) error {
	loaded, err := c.load(e)
	if err != nil {
		return err
	}
	a := &loaded.Config.Auth
	answer := access{Allowed: true, Why: "auth.mode is none: everybody may have every channel"}
	if a.On() {
		parsed, err := a.ChannelRules()
		if err != nil {
			return err
		}
		if answer, err = c.decide(e, parsed, func(purpose auth.Purpose, token string) (*auth.Claims, error) {
			return server.VerifyToken(context.Background(), &loaded.Config, purpose, token)
		}, a.Anonymous); err != nil {
			return err
		}
	}
	if c.JSON {
		err = json.NewEncoder(e.stdout).Encode(answer)
	} else {
		var b strings.Builder
		b.WriteString(map[bool]string{true: "allowed\n", false: "refused\n"}[answer.Allowed])
		if answer.Rule != nil {
			fmt.Fprintf(&b, "by   auth.rules[%d]: %s\n", *answer.Rule, answer.Text)
		}
		fmt.Fprintf(&b, "why  %s\n", answer.Why)
		_, err = fmt.Fprint(e.stdout, b.String())
	}
	if err == nil && !answer.Allowed {
		return command.ErrReported
	}
	return err
}

// decide verifies the tokens and asks the rules.
func (c *testAccessCmd) decide(
	e env, list *rules.Rules, verify func(auth.Purpose, string) (*auth.Claims, error), anonymous bool,
) (access, error) {
	token, err := tokenOf(c.Token, e.stdin)
	if err != nil {
		return access{}, err
	}
	claims := &auth.Claims{}
	switch {
	case token != "":
		claims, err = verify(auth.ForConnection, token)
		if refusal, ok := errors.AsType[*auth.Error](err); ok {
			return access{Why: "the client may not connect: " + refusal.Error()}, nil
		} else if err != nil {
			return access{}, err
		}
	case !anonymous:
		return access{Why: "the client may not connect: it has no token, and auth.anonymous is false"}, nil
	}
	if slices.Contains(claims.Channels, c.Channel) {
		return access{Allowed: true, Why: "the connection token names it: the server subscribes the client to it"}, nil
	}
	client := rules.Client{User: claims.User, Lists: claims.Lists}
	decision := list.Explain(&client, c.Channel)
	if !decision.Allowed && c.SubscriptionToken != "" {
		grant, err := verify(auth.ForSubscription, c.SubscriptionToken)
		refusal, ok := errors.AsType[*auth.Error](err)
		switch {
		case ok:
			return access{Why: "the subscription token is not accepted: " + refusal.Error()}, nil
		case err != nil:
			return access{}, err
		case grant.Channel != c.Channel:
			return access{Why: "the subscription token is for another channel"}, nil
		case grant.User != claims.User:
			return access{Why: "the subscription token is for another user (sub)"}, nil
		}
		client.Token = true
		decision = list.Explain(&client, c.Channel)
	}
	out := access{Allowed: decision.Allowed, Text: decision.Text, Why: decision.Why}
	if decision.Rule >= 0 {
		out.Rule = &decision.Rule
	}
	return out, nil
}
