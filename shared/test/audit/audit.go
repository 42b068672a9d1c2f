// SPDX-License-Identifier: Apache-2.0

// Package audit counts requests by the API server's audit log, so that a test can prove what an operator costs: no
// write in a quiet minute, so many requests for a Workspace.
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

// Request is one request that the API server answered.
type Request struct {
	Time time.Time // of its arrival
	// User is the name that the API server knows, for instance system:serviceaccount:NAMESPACE:NAME.
	User, UserAgent string
	// Verb is the API's: get, list, watch, create, update, patch, delete, deletecollection.
	Verb string
	// Group, Resource and what follows are empty for a path that is no resource, such as discovery.
	Group, Resource, Subresource, Namespace, Name string
	// Path is the request's URI with its query.
	Path string
	// Code is the HTTP status.
	Code int
	// Denied: no role allows it. A 403 of admission is not that.
	Denied bool
}

// Log reads an audit log in which each request has one or two lines: watches and the like one at their start and one at
// their end, all others one at their end.
type Log struct {
	path string
	now  func() time.Time
}

// Open names the log's file, which need not exist yet.
func Open(path string) *Log { return &Log{path: path, now: time.Now} }

// Mark is a moment in the log.
type Mark struct {
	offset int64
	time   time.Time
}

// Mark is now. A request that arrived before it does not count after it, even if its line is written later.
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

// Requests are those that arrived since the mark and pass all filters, each once, in the order of the log. A line that
// is still being written is left for the next call; the API server writes it as it answers, so what a client has an
// answer to is there within milliseconds, and what is still being answered is not.
func (l *Log) Requests(since Mark, filters ...Filter) ([]Request, error) {
	file, err := os.Open(l.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	defer func() { _ = file.Close() }() // nothing was written to it

	// From one byte before the mark: when that is no end of a line, the rest of its line belongs to the time before.
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
			return nil, fmt.Errorf("reading the audit log: the line %q is no audit event: %w", bytes.TrimSpace(line), err)
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

// Writes are the requests since the mark that change something, whether they succeeded or not, without leases: those
// are how processes say that they live. Pass Not(Resource("events")) to leave out events as well.
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

// event is what is read of audit.k8s.io/v1's Event.
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

// annotationDecision is what the API server notes of the authorizers' answer.
const annotationDecision = "authorization.k8s.io/decision"

func (e event) request() Request {
	return Request{
		Time: e.Received, User: e.User.Username, UserAgent: e.UserAgent, Verb: e.Verb,
		Group: e.Object.APIGroup, Resource: e.Object.Resource, Subresource: e.Object.Subresource,
		Namespace: e.Object.Namespace, Name: e.Object.Name, Path: e.RequestURI, Code: e.Response.Code,
		Denied: e.Annotations[annotationDecision] == "forbid",
	}
}
