// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"net/http"
	"strconv"
	"strings"
)

// skipToken is the query parameter with the position of a page.
const skipToken = "$skiptoken"

// item is one entry of a list, with a key that does not change.
type item struct {
	key   string
	value any
}

// from returns the number of the requested page, from 1, and the key before its first entry.
func (c *call) from() (page int, after string) {
	number, after, _ := strings.Cut(c.r.URL.Query().Get(skipToken), ".")
	page, err := strconv.Atoi(number)
	if err != nil {
		return 1, ""
	}
	return page, after
}

// page returns a page of a list, in the order of keys, and the position of the next one. The list may change between
// two pages: entries that are added or removed do not shift others. A full page has a next page, which may be empty, as
// ARM allows (https://learn.microsoft.com/rest/api/azure/#async-operations-throttling-and-paging).
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
