package api

import (
	"encoding/json"

	"wsd/internal/commands"
)

// Requests and results of methods. Fields that wsd has no use for are left out: a request may have them.

// Position is a position of a channel's stream.
type Position struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

// PublishRequest is the parameters of publish.
type PublishRequest struct {
	Channel        string            `json:"channel"`
	Data           json.RawMessage   `json:"data"`
	B64Data        string            `json:"b64data"`
	Tags           map[string]string `json:"tags"`
	IdempotencyKey string            `json:"idempotency_key"`
}

// BroadcastRequest is the parameters of broadcast.
type BroadcastRequest struct {
	Channels       channelList       `json:"channels"`
	Data           json.RawMessage   `json:"data"`
	B64Data        string            `json:"b64data"`
	Tags           map[string]string `json:"tags"`
	IdempotencyKey string            `json:"idempotency_key"`
}

// BroadcastResult is the result of broadcast: a response for each channel, in order.
type BroadcastResult struct {
	Responses []response `json:"responses"`
}

// SubscribeRequest is the parameters of subscribe.
type SubscribeRequest struct {
	User         string             `json:"user"`
	Client       string             `json:"client"`
	Session      string             `json:"session"`
	Channel      string             `json:"channel"`
	Data         json.RawMessage    `json:"data"`
	B64Data      string             `json:"b64data"`
	ExpireAt     int64              `json:"expire_at"`
	RecoverSince *commands.Position `json:"recover_since"`
}

// UnsubscribeRequest is the parameters of unsubscribe.
type UnsubscribeRequest struct {
	User    string `json:"user"`
	Client  string `json:"client"`
	Session string `json:"session"`
	Channel string `json:"channel"`
}

// DisconnectRequest is the parameters of disconnect.
type DisconnectRequest struct {
	User       string      `json:"user"`
	Client     string      `json:"client"`
	Session    string      `json:"session"`
	Whitelist  clientList  `json:"whitelist"`
	Disconnect *Disconnect `json:"disconnect"`
}

// Disconnect is a close frame's code and reason.
type Disconnect struct {
	Code   int    `json:"code"`
	Reason string `json:"reason"`
}

// RefreshRequest is the parameters of refresh.
type RefreshRequest struct {
	User     string `json:"user"`
	Client   string `json:"client"`
	Session  string `json:"session"`
	Expired  bool   `json:"expired"`
	ExpireAt int64  `json:"expire_at"`
}

// CommandResult is the result of subscribe, unsubscribe, disconnect and refresh.
type CommandResult struct {
	// Which clients the command was for: ScopeNode or ScopeCluster.
	Scope string `json:"scope"`
}

// How far a command reaches.
const (
	ScopeNode    = "node"    // Clients of the node that answers alone.
	ScopeCluster = "cluster" // Clients of all nodes, which read it from commands.topic.
)

// ChannelRequest is the parameters of methods that need a channel alone.
type ChannelRequest struct {
	Channel string `json:"channel"`
}

// HistoryRequest is the parameters of history.
type HistoryRequest struct {
	Channel string    `json:"channel"`
	Limit   int       `json:"limit"` // 0: the position alone; below 0: as many as there may be.
	Since   *Position `json:"since"` // nil: the newest ones.
	Reverse bool      `json:"reverse"`
}

// HistoryResult is the result of history.
type HistoryResult struct {
	Publications []Publication `json:"publications"`
	Position
}

// Publication is a publication of a history.
type Publication struct {
	Data   json.RawMessage   `json:"data"`
	Offset uint64            `json:"offset"`
	Info   *ClientInfo       `json:"info,omitempty"`
	Tags   map[string]string `json:"tags,omitempty"`
}

// ClientInfo says who published.
type ClientInfo struct {
	User     string          `json:"user"`
	Client   string          `json:"client"`
	ConnInfo json.RawMessage `json:"conn_info,omitempty"`
	ChanInfo json.RawMessage `json:"chan_info,omitempty"`
}

// ChannelsRequest is the parameters of channels.
type ChannelsRequest struct {
	Pattern string `json:"pattern"` // A glob in which * is any text without a dot, ** any text; empty: all.
}

// ChannelsResult is the result of channels.
type ChannelsResult struct {
	Channels map[string]ChannelInfo `json:"channels"`
	Scope    string                 `json:"scope"`
}

// ChannelInfo says how many clients a channel has.
type ChannelInfo struct {
	NumClients int `json:"num_clients"`
}

// InfoResult is the result of info.
type InfoResult struct {
	Nodes []Node `json:"nodes"`
	Scope string `json:"scope"`
}

// Node is one node.
type Node struct {
	UID         string   `json:"uid"`
	Name        string   `json:"name"`
	Version     string   `json:"version"`
	NumClients  int64    `json:"num_clients"`
	NumUsers    int64    `json:"num_users"`
	NumSubs     int64    `json:"num_subs"`
	NumChannels int64    `json:"num_channels"`
	Uptime      int64    `json:"uptime"` // Seconds.
	Process     *Process `json:"process,omitempty"`
}

// Process is the resources of a node's process.
type Process struct {
	CPU float64 `json:"cpu"` // Share of its CPUs since the start, in percent.
	RSS int64   `json:"rss"` // Bytes.
}
