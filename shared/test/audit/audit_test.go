// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var start = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// line returns a shortened audit event as the API server writes it.
func line(id, stage, user, verb, resource, subresource string, at time.Time) string {
	return fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":%q,"stage":%q,`+
		`"requestURI":"/api/v1/x","verb":%q,"user":{"username":%q},"objectRef":{"resource":%q,"namespace":"default","name":"a",`+
		`"apiVersion":"v1","subresource":%q},"responseStatus":{"code":200},"requestReceivedTimestamp":%q}`+"\n",
		id, stage, verb, user, resource, subresource, at.Format("2006-01-02T15:04:05.000000Z"))
}

func logOf(t *testing.T, now time.Time) (*Log, func(string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	log := Open(path)
	log.now = func() time.Time { return now }
	return log, func(text string) {
		t.Helper()
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		_, err = file.WriteString(text)
		require.NoError(t, err)
		require.NoError(t, file.Close())
	}
}

func TestMissingLogHasNoRequests(t *testing.T) {
	log, add := logOf(t, start)
	mark, err := log.Mark()
	require.NoError(t, err)
	requests, err := log.Requests(mark)
	require.NoError(t, err)
	assert.Empty(t, requests)

	add(line("1", "ResponseComplete", "u", "get", "pods", "", start.Add(time.Second)))
	requests, err = log.Requests(mark)
	require.NoError(t, err)
	assert.Len(t, requests, 1)
}

func TestRequestsBeforeTheMarkAreNotCounted(t *testing.T) {
	log, add := logOf(t, start)
	add(line("early", "ResponseComplete", "u", "create", "pods", "", start.Add(-time.Second)))
	mark, err := log.Mark()
	require.NoError(t, err)
	add(line("late", "ResponseComplete", "u", "create", "pods", "", start.Add(-time.Millisecond)))
	add(line("watch", "ResponseComplete", "u", "watch", "pods", "", start.Add(-time.Minute)))
	add(line("after", "ResponseComplete", "u", "update", "pods", "", start.Add(time.Millisecond)))
	requests, err := log.Requests(mark)
	require.NoError(t, err)
	require.Len(t, requests, 1)
	assert.Equal(t, "update", requests[0].Verb)
}

func TestWatchIsCountedOnce(t *testing.T) {
	log, add := logOf(t, start)
	add(line("w", "ResponseStarted", "u", "watch", "pods", "", start))
	add(line("w", "ResponseComplete", "u", "watch", "pods", "", start))
	requests, err := log.Requests(Mark{})
	require.NoError(t, err)
	assert.Len(t, requests, 1)
}

func TestIncompleteLineIsIgnored(t *testing.T) {
	log, add := logOf(t, start)
	whole := line("1", "ResponseComplete", "u", "get", "pods", "", start.Add(time.Second))
	add(whole[:40])
	mark, err := log.Mark()
	require.NoError(t, err)
	requests, err := log.Requests(Mark{})
	require.NoError(t, err)
	assert.Empty(t, requests)
	add(whole[40:])
	requests, err = log.Requests(Mark{})
	require.NoError(t, err)
	assert.Len(t, requests, 1)
	_, err = log.Requests(mark)
	assert.NoError(t, err, "a mark within a line must not break it")
}

func TestLogInAnotherFormatIsAnError(t *testing.T) {
	log, add := logOf(t, start)
	add("I0102 not an audit event\n")
	_, err := log.Requests(Mark{})
	assert.ErrorContains(t, err, "is not an audit event")
}

func TestWrites(t *testing.T) {
	for name, test := range map[string]struct {
		verb, resource, subresource string
		want                        bool
	}{
		"a create":                {"create", "pods", "", true},
		"an update":               {"update", "pods", "", true},
		"a patch of a status":     {"patch", "pods", "status", true},
		"a deletion":              {"delete", "pods", "", true},
		"a deletion of many":      {"deletecollection", "pods", "", true},
		"an eviction":             {"create", "pods", "eviction", true},
		"an event":                {"create", "events", "", true},
		"a lease's renewal":       {"update", "leases", "", false},
		"a token":                 {"create", "serviceaccounts", "token", false},
		"a port-forward":          {"create", "pods", "portforward", false},
		"a request for a service": {"update", "services", "proxy", false},
		"a get":                   {"get", "pods", "", false},
		"a list":                  {"list", "pods", "", false},
		"a watch":                 {"watch", "pods", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			log, add := logOf(t, start)
			add(line("1", "ResponseComplete", "u", test.verb, test.resource, test.subresource, start))
			writes, err := log.Writes(Mark{})
			require.NoError(t, err)
			assert.Equal(t, test.want, len(writes) == 1)
		})
	}
}

func TestFilters(t *testing.T) {
	log, add := logOf(t, start)
	add(line("1", "ResponseComplete", "system:serviceaccount:kaito:operator", "patch", "pods", "status", start))
	add(line("2", "ResponseComplete", "system:serviceaccount:kaito:operator", "create", "events", "", start))
	add(line("3", "ResponseComplete", "kwok", "patch", "pods", "status", start))
	for name, test := range map[string]struct {
		filters []Filter
		want    int
	}{
		"none":            {nil, 3},
		"the account's":   {[]Filter{ServiceAccount("kaito", "operator")}, 2},
		"and no events":   {[]Filter{ServiceAccount("kaito", "operator"), Not(Resource("events"))}, 1},
		"a verb":          {[]Filter{Verb("patch")}, 2},
		"another's space": {[]Filter{Namespace("kube-system")}, 0},
		"an object":       {[]Filter{Object("pods", "default", "a"), User("kwok")}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			writes, err := log.Writes(Mark{}, test.filters...)
			require.NoError(t, err)
			assert.Len(t, writes, test.want)
		})
	}
}

func TestTableIsSortedByFrequency(t *testing.T) {
	log, add := logOf(t, start)
	add(line("1", "ResponseComplete", "operator", "get", "nodes", "", start))
	add(line("2", "ResponseComplete", "operator", "patch", "pods", "status", start))
	add(line("3", "ResponseComplete", "operator", "patch", "pods", "status", start))
	requests, err := log.Requests(Mark{})
	require.NoError(t, err)
	assert.Equal(
		t, map[Kind]int{{"operator", "get", "nodes"}: 1, {"operator", "patch", "pods/status"}: 2}, Tally(requests),
	)
	rows := strings.Split(Table(requests), "\n")
	assert.Regexp(t, `^2 +operator +patch +pods/status +default/a +200 +15:04:05\.000$`, rows[1])
	assert.Regexp(t, `^1 +operator +get +nodes`, rows[2])
	assert.Regexp(t, `^3 +in all`, rows[3])
}

// A refusal of admission must not count as a missing right, nor the reverse.
func TestDeniedExcludesRefusalsOfAdmission(t *testing.T) {
	log, write := logOf(t, start)
	for _, decision := range []string{"forbid", "allow"} {
		l := strings.Replace(
			line(decision, "ResponseComplete", "operator", "create", "secrets", "", start.Add(time.Second)),
			`"code":200`,
			`"code":403`,
			1,
		)
		write(strings.TrimSuffix(l, "}\n") + `,"annotations":{"authorization.k8s.io/decision":"` + decision + `"}}` + "\n")
	}
	requests, err := log.Requests(Mark{})
	require.NoError(t, err)
	require.Len(t, requests, 2)
	for i, denied := range []bool{true, false} {
		assert.Equal(t, 403, requests[i].Code)
		assert.Equal(t, denied, requests[i].Denied)
	}
}
