package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Client is what is known of a client.
type Client struct {
	User  string              // Empty: it has none.
	Lists map[string][]string // Lists of channels by claim, see Rules.Claims. Elements may be prefixes that end with *.
	Token bool                // It has shown a subscription token for the channel that is asked for.
}

// Rules is an ordered list of rules. The first rule whose pattern fits a channel decides; if none does, nobody may have
// the channel.
type Rules struct{ list []rule }

// subject stands in a pattern for the client's user.
const subject = "{sub}"

// rule says who may have the channels that fit a pattern: whoever one of the following applies to.
type rule struct {
	text string

	// Of the pattern: what comes before {sub}, and after it. Without it before is all.
	before, after string
	user          bool // It contains {sub}.
	prefix        bool // It ends with *, which is not part of before or after.

	all, anyUser, token, proxy bool
	claims                     []string
}

const accepted = "write PATTERN=WHO: a channel or a prefix that ends with *, in which {sub} may stand for the user, " +
	"and all, user, claim:NAME, token, proxy or nobody, or several parted by |"

// Parse reads rules in the form PATTERN=WHO. The pattern may contain a =.
func Parse(texts []string) (*Rules, error) {
	r := &Rules{}
	for _, text := range texts {
		one, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		for _, earlier := range r.list {
			if earlier.covers(&one) {
				return nil, fmt.Errorf("%q: has no effect after %q, which fits all of its channels", text, earlier.text)
			}
		}
		r.list = append(r.list, one)
	}
	return r, nil
}

func parse(text string) (r rule, err error) {
	at := strings.LastIndexByte(text, '=')
	if at < 1 {
		return r, errors.New(accepted)
	}
	r.text = text
	pattern, who := text[:at], text[at+1:]
	pattern, r.prefix = strings.CutSuffix(pattern, "*")
	r.before, r.after, r.user = strings.Cut(pattern, subject)
	switch {
	case strings.Contains(pattern, "*"):
		return r, errors.New("a * may only stand at the end of a pattern")
	case strings.Contains(r.after, subject):
		return r, errors.New("{sub} may be there once")
	case r.user && r.after == "" && r.prefix:
		return r, errors.New("a * right after {sub} would give one user the channels of others, whose names begin " +
			"alike: write such as user.{sub}.*")
	case strings.ContainsAny(strings.ReplaceAll(pattern, subject, ""), "{}"):
		return r, errors.New("{sub} is the only placeholder")
	}
	for one := range strings.SplitSeq(who, "|") {
		name, isClaim := strings.CutPrefix(one, "claim:")
		switch {
		case one == "all":
			r.all = true
		case one == "user":
			r.anyUser = true
		case one == "token":
			r.token = true
		case one == "proxy":
			r.proxy = true
		case one == "nobody" && who == one:
		case isClaim && name != "":
			r.claims = append(r.claims, name)
		default:
			return r, fmt.Errorf("%q does not say who: %s", who, accepted)
		}
	}
	if r.user && r.all {
		return r, errors.New("all would give the channels of each user to everybody; write user")
	}
	return r, nil
}

// covers reports whether every channel that fits other fits r as well.
func (r *rule) covers(other *rule) bool {
	switch {
	case r.user:
		return other.user && r.before == other.before && r.after == other.after && (r.prefix || !other.prefix)
	case r.prefix:
		return strings.HasPrefix(other.before, r.before)
	default:
		return !other.user && !other.prefix && other.before == r.before
	}
}

// fits reports whether the pattern fits a channel, and which user {sub} stands for in it.
func (r *rule) fits(channel string) (user string, ok bool) {
	rest, ok := strings.CutPrefix(channel, r.before)
	switch {
	case !ok:
		return "", false
	case !r.user:
		return "", r.prefix || rest == ""
	case !r.prefix:
		user, ok = strings.CutSuffix(rest, r.after)
	default:
		// What comes after {sub} ends the user: else a user "a" would have the channels of a user "a.b".
		user, _, ok = strings.Cut(rest, r.after)
	}
	return user, ok && user != ""
}

// Decision is whether a client may have a channel, and why.
type Decision struct {
	Allowed bool
	Rule    int    // Index of the rule that decided; -1: no rule fits.
	Text    string // That rule.
	Why     string // For people.
}

// Allows reports whether a client may have a channel.
func (r *Rules) Allows(c *Client, channel string) bool {
	for i := range r.list {
		if user, ok := r.list[i].fits(channel); ok {
			why := r.list[i].decide(c, channel, user)
			return why != ""
		}
	}
	return false
}

// Explain is Allows with the reason.
func (r *Rules) Explain(c *Client, channel string) Decision {
	for i := range r.list {
		one := &r.list[i]
		user, ok := one.fits(channel)
		if !ok {
			continue
		}
		d := Decision{Rule: i, Text: one.text, Why: one.decide(c, channel, user)}
		if d.Allowed = d.Why != ""; !d.Allowed {
			d.Why = one.lacks(user)
		}
		return d
	}
	return Decision{Rule: -1, Why: "no rule fits the channel, and what no rule allows is refused"}
}

// decide returns why the rule, which fits the channel with this user, lets the client have it; empty: it does not.
func (r *rule) decide(c *Client, channel, user string) string {
	switch {
	case r.all:
		return "everybody may have it"
	case r.anyUser && r.user && user == c.User:
		return "it is the user's own"
	case r.anyUser && !r.user && c.User != "":
		return "every user may have it"
	case r.token && c.Token:
		return "a subscription token allows it"
	}
	for _, name := range r.claims {
		if r.user && user != c.User {
			continue
		}
		if slices.ContainsFunc(c.Lists[name], func(element string) bool { return listed(element, channel) }) {
			return "the claim " + name + " contains it"
		}
	}
	return ""
}

// listed reports whether an element of a claim means a channel.
func listed(element, channel string) bool {
	if prefix, ok := strings.CutSuffix(element, "*"); ok {
		return strings.HasPrefix(channel, prefix)
	}
	return element == channel
}

// lacks says what a client lacks that the rule does not let have a channel.
func (r *rule) lacks(user string) string {
	var who []string
	switch {
	case r.anyUser && r.user:
		who = append(who, fmt.Sprintf("the user %q may have it", user))
	case r.anyUser:
		who = append(who, "a client with a user may have it")
	}
	for _, name := range r.claims {
		who = append(who, "a client may have it whose claim "+name+" contains it")
	}
	if r.token {
		who = append(who, "a client may have it with a subscription token for it")
	}
	if r.proxy {
		who = append(who, "a client may have it that the backend allows it")
	}
	if len(who) == 0 {
		return "nobody may have it"
	}
	return strings.Join(who, ", or ")
}

// Claims returns the names of the claims that the rules look at, each once.
func (r *Rules) Claims() (names []string) {
	for i := range r.list {
		names = append(names, r.list[i].claims...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// MayAllow reports whether a rule gives somebody a channel: the one of this name, or with prefix any that begins with
// it. It may return true for channels that a rule before gives to nobody.
func (r *Rules) MayAllow(name string, prefix bool) bool {
	return slices.ContainsFunc(r.list, func(one rule) bool {
		switch {
		case !one.all && !one.anyUser && !one.token && len(one.claims) == 0:
			return false
		case one.prefix || one.user:
			return strings.HasPrefix(name, one.before) || prefix && strings.HasPrefix(one.before, name)
		default:
			return name == one.before || prefix && strings.HasPrefix(one.before, name)
		}
	})
}

// NeedUsers reports whether a rule asks for more than to be anybody.
func (r *Rules) NeedUsers() bool {
	return slices.ContainsFunc(r.list, func(one rule) bool { return one.anyUser || one.token || len(one.claims) > 0 })
}

// NeedTokens reports whether a rule looks at subscription tokens.
func (r *Rules) NeedTokens() bool {
	return slices.ContainsFunc(r.list, func(one rule) bool { return one.token })
}
