// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Request is a request that the API server answered.
type Request struct {
	Time time.Time // time of its arrival
	// User is the name of the user, for example system:serviceaccount:NAMESPACE:NAME.
	User, UserAgent string
	// Verb is get, list, watch, create, update, patch, delete or deletecollection.
	Verb string
	// Group, Resource and the other fields of an object are empty for a path without a resource, such as discovery.
	Group, Resource, Subresource, Namespace, Name string
	// Path is the URI of the request with its query.
	Path string
	// Code is the HTTP status.
	Code int
	// Denied is true if no role allows the request. It is false for a 403 of admission.
	Denied bool
}

// Log reads an audit log. Long-running requests such as watches have a line at their start and one at their end, and
// all others have one at their end.
type Log struct {
	path string
	now  func() time.Time
}

// Open returns the Log of a file, which need not exist yet.
func Open(path string) *Log { return &Log{path: path, now: time.Now} }

// Mark is a time in the log.
type Mark struct {
	offset int64
	time   time.Time
}

// Mark returns the current time in the log. A request that arrived before it is not counted after it, even if its line
// is written later.
func (l *Log) Mark() (Mark, error) {
	mark := Mark{time: l.now()}
	info, err := os.Stat(l.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return mark, nil
	case err != nil:
		return Mark{}, fmt.Errorf("marking the audit log: %w", err)
	}
	mark.offset = info.Size()
	return mark, nil
}

// Requests returns the requests that arrived since the mark and pass all filters, each once, in the order of the log.
// It ignores an incomplete line until the next call. The API server writes a line when it answers, so that a request is
// in the log within milliseconds after its answer.
func (l *Log) Requests(since Mark, filters ...Filter) ([]Request, error) {
	file, err := os.Open(l.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	defer func() { _ = file.Close() }() // the file is only read

	// Start one byte before the mark: unless that byte ends a line, the rest of its line is older than the mark.
	reader, err := readerFrom(file, since.offset)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	var requests []Request
	seen := map[string]bool{}
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return requests, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("reading the audit log: the line %q is not an audit event: %w", bytes.TrimSpace(line), err)
		}
		if seen[e.AuditID] || e.Received.Before(since.time) {
			continue
		}
		seen[e.AuditID] = true
		if request := e.request(); passes(request, filters) {
			requests = append(requests, request)
		}
	}
}

// Writes returns the writing requests since the mark, also failed ones. It omits leases, which processes renew
// regularly. Pass Not(Resource("events")) to omit events too.
func (l *Log) Writes(since Mark, filters ...Filter) ([]Request, error) {
	return l.Requests(since, append([]Filter{write, Not(Resource("leases"))}, filters...)...)
}

func readerFrom(file *os.File, offset int64) (*bufio.Reader, error) {
	if offset == 0 {
		return bufio.NewReader(file), nil
	}
	if _, err := file.Seek(offset-1, io.SeekStart); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(file)
	if _, err := reader.ReadBytes('\n'); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return reader, nil
}

// event has the fields of audit.k8s.io/v1 Event that are read.
type event struct {
	AuditID    string    `json:"auditID"`
	Received   time.Time `json:"requestReceivedTimestamp"`
	RequestURI string    `json:"requestURI"`
	Verb       string    `json:"verb"`
	UserAgent  string    `json:"userAgent"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	Object struct {
		Resource    string `json:"resource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		APIGroup    string `json:"apiGroup"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	Response struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	Annotations map[string]string `json:"annotations"`
}

// annotationDecision is the annotation with the decision of the authorizers.
const annotationDecision = "authorization.k8s.io/decision"

func (e event) request() Request {
	return Request{
		Time: e.Received, User: e.User.Username, UserAgent: e.UserAgent, Verb: e.Verb,
		Group: e.Object.APIGroup, Resource: e.Object.Resource, Subresource: e.Object.Subresource,
		Namespace: e.Object.Namespace, Name: e.Object.Name, Path: e.RequestURI, Code: e.Response.Code,
		Denied: e.Annotations[annotationDecision] == "forbid",
	}
}
