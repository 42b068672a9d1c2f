package stack

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"kaito.sh/e2e/rights"
	"kaito.sh/shared/test/audit"
)

// rights names what the operators have asked for and their roles do not allow: rules that are missing. And it leaves what they have asked for and
// were allowed where the environment says, for the report of rules that nobody needs. It is looked at whenever a stack ends, so that every
// story tells of it. Nil where the cluster's audit log is not ours to read.
func (s *Stack) rights() error {
	if s.Cluster == nil {
		return nil
	}
	requests, err := audit.Open(s.Cluster.AuditLog()).Requests(audit.Mark{}, audit.User(slices.Sorted(maps.Keys(s.users))...))
	if err != nil {
		return fmt.Errorf("reading which requests were denied: %w", err)
	}
	var denied []audit.Request
	of := map[Operator][]audit.Request{}
	for _, r := range requests {
		if r.Denied {
			denied = append(denied, r)
		}
		of[s.users[r.User]] = append(of[s.users[r.User]], r)
	}
	var errs []error
	if len(denied) > 0 {
		errs = append(errs, fmt.Errorf("%d requests that the operators' roles do not allow:\n%s", len(denied), audit.Table(denied)))
	}
	if folder := os.Getenv(rights.CallsFolder); folder != "" {
		for o, requests := range of {
			errs = append(errs, rights.Save(folder, string(o), rights.Used(requests)))
		}
	}
	return errors.Join(errs...)
}
