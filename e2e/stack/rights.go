package stack

import (
	"fmt"
	"maps"
	"slices"

	"kaito.sh/shared/test/audit"
)

// denied names what the operators have asked for and their roles do not allow: rules that are missing. It is looked at whenever a stack
// ends, so that every story tells of it. Nil where the cluster's audit log is not ours to read.
func (s *Stack) denied() error {
	if s.Cluster == nil {
		return nil
	}
	requests, err := audit.Open(s.Cluster.AuditLog()).Requests(audit.Mark{}, audit.User(slices.Sorted(maps.Keys(s.users))...), func(r audit.Request) bool { return r.Denied })
	if err != nil {
		return fmt.Errorf("reading which requests were denied: %w", err)
	}
	if len(requests) > 0 {
		return fmt.Errorf("%d requests that the operators' roles do not allow:\n%s", len(requests), audit.Table(requests))
	}
	return nil
}
