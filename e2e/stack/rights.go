// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"kaito.sh/e2e/rights"
	"kaito.sh/shared/test/audit"
)

// rights returns an error with the requests that the operators' roles do not allow. It writes the allowed requests to
// the folder that the environment names, for the report of unused rules. It runs at the end of every stack. It returns
// nil if the cluster's audit log is not readable.
func (s *Stack) rights() error {
	if s.Cluster == nil {
		return nil
	}
	requests, err := audit.Open(s.Cluster.AuditLog()).
		Requests(audit.Mark{}, audit.User(slices.Sorted(maps.Keys(s.users))...))
	if err != nil {
		return fmt.Errorf("reading which requests were denied: %w", err)
	}
	var denied []audit.Request
	of := map[Operator][]audit.Request{}
	for _, r := range requests {
		if r.Denied && !s.restarting(r.Time) {
			denied = append(denied, r)
		}
		of[s.users[r.User]] = append(of[s.users[r.User]], r)
	}
	var errs []error
	if len(denied) > 0 {
		errs = append(
			errs, fmt.Errorf("%d requests that the operators' roles do not allow:\n%s", len(denied), audit.Table(denied)),
		)
	}
	if folder := os.Getenv(rights.CallsFolder); folder != "" {
		for o, requests := range of {
			errs = append(errs, rights.Save(folder, string(o), rights.Used(requests)))
		}
	}
	return errors.Join(errs...)
}

// restart is when the API server was away.
type restart struct{ from, to time.Time }

// RestartAPIServer has the API server crash and come back.
func (s *Stack) RestartAPIServer(ctx context.Context) error {
	r := restart{from: time.Now()}
	err := s.Cluster.RestartAPIServer(ctx)
	r.to = time.Now()
	s.restarts = append(s.restarts, r)
	return err
}

// restarting says whether the API server was not yet ready then: it answers before it has read which roles there are,
// and denies everything.
func (s *Stack) restarting(at time.Time) bool {
	return slices.ContainsFunc(s.restarts, func(r restart) bool { return !at.Before(r.from) && !at.After(r.to) })
}
