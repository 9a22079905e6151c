package source

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"wsd/internal/bus"
	"wsd/internal/proto"
	"wsd/internal/route"
)

// What the headers of a published record may have beside the limits of package route. Records with more have no info:
// whatever wsd writes has less.
const (
	clientBytesMax = 64
	userBytesMax   = 255
	infoDepthMax   = 128
)

// published returns what the headers say of who published a record and of its tags, or nil if they say nothing. It is
// only for topics that wsd itself publishes to (Options.Published): elsewhere, anybody who may produce could claim to
// be a user.
func published(headers route.Headers) *bus.Info {
	client, _ := headers.Find(route.HeaderClient)
	user, _ := headers.Find(route.HeaderUser)
	var tags [][2]string
	ok := headers.Each(func(name, value []byte) bool {
		tag, isTag := strings.CutPrefix(string(name), route.HeaderTagPrefix)
		if isTag {
			tags = append(tags, [2]string{tag, string(value)})
		}
		return !isTag || len(tags) <= route.TagsMax && tag != "" && max(len(tag), len(value)) <= route.TagBytesMax &&
			utf8.ValidString(tag) && utf8.Valid(value)
	})
	if !ok || len(client) > clientBytesMax || len(user) > userBytesMax || !utf8.Valid(client) || !utf8.Valid(user) ||
		len(client) == 0 && len(tags) == 0 {
		return nil
	}
	info := &bus.Info{Client: string(client), User: string(user), Tags: tags}
	if len(client) == 0 {
		return info
	}
	info.ConnInfo, ok = infoOf(headers, route.HeaderConnInfo)
	if !ok {
		return nil
	}
	info.ChanInfo, ok = infoOf(headers, route.HeaderChanInfo)
	if !ok {
		return nil
	}
	return info
}

// infoOf returns a copy of what a header says of a client, nil if there is none. It returns false if that is not what
// wsd writes: JSON on one line, of a bounded size.
func infoOf(headers route.Headers, name string) ([]byte, bool) {
	value, found := headers.Find(name)
	if !found {
		return nil, true
	}
	compact, err := proto.CompactJSON(nil, value, infoDepthMax)
	if err != nil || len(value) > route.InfoBytesMax {
		return nil, false
	}
	return bytes.Clone(compact), true
}
