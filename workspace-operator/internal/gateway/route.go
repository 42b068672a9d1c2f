// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"strings"
)

// route is a path for clients. Its pattern is a label of metrics, logs and spans. The set of labels is closed: text
// from clients does not become a label.
type route struct {
	pattern string
	method  string
	// engineWork is true if a request needs a place in the engine, and waits for a free one.
	engineWork bool
	// chat is true if the gateway translates the request into its own call of the engine.
	chat bool
	// open routes need no key: load balancers, which have none, ask them. They answer nothing about the model.
	open bool
}

// allows reports whether the route has the method. HEAD is GET without the body.
func (r *route) allows(method string) bool {
	return method == r.method || method == http.MethodHead && r.method == http.MethodGet
}

// routes are all paths that reach the engine: OpenAI's inference calls, rerank and score, which vLLM added, and the
// probes by which clients of vLLM see that it is there. Clients cannot reach other paths of the engine. The table is
// read only.
var routes = []route{
	{pattern: "/chat", method: http.MethodPost, engineWork: true, chat: true},
	{pattern: "/health", method: http.MethodGet, open: true},
	{pattern: "/ping", method: http.MethodGet, open: true},
	{pattern: "/version", method: http.MethodGet},
	{pattern: "/v1/models", method: http.MethodGet},
	{pattern: "/v1/chat/completions", method: http.MethodPost, engineWork: true},
	{pattern: "/v1/completions", method: http.MethodPost, engineWork: true},
	{pattern: "/v1/responses", method: http.MethodPost, engineWork: true},
	{pattern: "/v1/responses/{id}", method: http.MethodGet},
	{pattern: "/v1/responses/{id}/cancel", method: http.MethodPost},
	{pattern: "/v1/messages", method: http.MethodPost, engineWork: true},
	{pattern: "/v1/messages/count_tokens", method: http.MethodPost},
	{pattern: "/v1/embeddings", method: http.MethodPost, engineWork: true},
	{pattern: "/v1/rerank", method: http.MethodPost, engineWork: true},
	{pattern: "/v1/score", method: http.MethodPost, engineWork: true},
	{pattern: "/v1/audio/transcriptions", method: http.MethodPost, engineWork: true},
	{pattern: "/v1/audio/translations", method: http.MethodPost, engineWork: true},
}

// routeTable finds a route by the exact path. It does not clean paths.
type routeTable struct {
	exact     map[string]*route
	templates []*route
}

func newRouteTable() routeTable {
	t := routeTable{exact: make(map[string]*route, len(routes))}
	for i := range routes {
		r := &routes[i]
		if strings.Contains(r.pattern, "{id}") {
			t.templates = append(t.templates, r)
			continue
		}
		t.exact[r.pattern] = r
	}
	return t
}

// lookup returns the route of path, or nil.
func (t routeTable) lookup(path string) *route {
	if r, ok := t.exact[path]; ok {
		return r
	}
	for _, r := range t.templates {
		before, after, _ := strings.Cut(r.pattern, "{id}")
		rest, ok := strings.CutPrefix(path, before)
		if !ok {
			continue
		}
		// All ids of vLLM begin with resp_. Without the prefix it can be another path, such as /v1/responses/render.
		if id, ok := strings.CutSuffix(rest, after); ok && strings.HasPrefix(id, "resp_") && isToken(id) {
			return r
		}
	}
	return nil
}

// isToken reports whether s has 1 to 128 letters, digits, dashes and underscores. Such a string is safe in a path, a
// header and a log line.
func isToken(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
