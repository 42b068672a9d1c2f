// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"net/http"
	"strconv"
	"strings"
)

// skipToken is the query parameter that says where a page begins.
const skipToken = "$skiptoken"

// item is one of a list, by a key that stays its own whatever else comes and goes.
type item struct {
	key   string
	value any
}

// from is the number of the page that is asked for, from 1, and the key that it begins after.
func (c *call) from() (page int, after string) {
	number, after, _ := strings.Cut(c.r.URL.Query().Get(skipToken), ".")
	page, err := strconv.Atoi(number)
	if err != nil {
		return 1, ""
	}
	return page, after
}

// page answers a part of a list, which is in the order of its keys, and where the rest is. The list may change between
// two pages: what comes or goes shifts nothing else. A full page has a next one even when nothing is left, which is
// then empty, as ARM allows (https://learn.microsoft.com/rest/api/azure/#async-operations-throttling-and-paging).
func (s *Server) page(c *call, items []item) {
	number, after := c.from()
	start := 0
	for number > 1 && start < len(items) && items[start].key <= after {
		start++
	}
	end := min(start+s.options.PageSize, len(items))
	values := []any{}
	for _, i := range items[start:end] {
		values = append(values, i.value)
	}
	body := map[string]any{"value": values}
	if end-start == s.options.PageSize {
		next := *c.r.URL
		query := next.Query()
		query.Set(skipToken, strconv.Itoa(number+1)+"."+items[end-1].key)
		next.RawQuery, next.Scheme, next.Host = query.Encode(), "https", c.r.Host
		body["nextLink"] = next.String()
	}
	respond(c.w, http.StatusOK, body)
}
