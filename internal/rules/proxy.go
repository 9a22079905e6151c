package rules

import "slices"

// AsksProxy reports whether the rule that decides about a channel has the backend asked about clients that nothing else
// in it lets have the channel.
func (r *Rules) AsksProxy(channel string) bool {
	for i := range r.list {
		if _, ok := r.list[i].fits(channel); ok {
			return r.list[i].proxy
		}
	}
	return false
}

// NeedProxy reports whether a rule has the backend asked.
func (r *Rules) NeedProxy() bool {
	return slices.ContainsFunc(r.list, func(one rule) bool { return one.proxy })
}
