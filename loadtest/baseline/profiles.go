package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"

	"wsd/loadtest/baseline/shard"
)

// shardProfiles passes /shard/N/debug/pprof/… on to the shard.
func (m *mainProcess) shardProfiles() http.Handler {
	transport := &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			index, _, _ := strings.Cut(address, ":")
			n, err := strconv.Atoi(index)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, "unix", shard.DebugPath(m.dir, n))
		}}
	return &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		index := r.In.PathValue("index")
		if n, err := strconv.Atoi(index); err != nil || n < 0 || n >= m.c.Shards {
			index = "none" // The dial fails, and the answer is 502.
		}
		r.Out.URL.Scheme, r.Out.URL.Host = "http", index
		r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, "/shard/"+r.In.PathValue("index"))
	}}
}
