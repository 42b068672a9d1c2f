// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxBody limits a request's body. An agent pool has a few kilobytes.
const maxBody = 1 << 20

// call is one ARM request in progress.
type call struct {
	Request
	w    http.ResponseWriter
	r    *http.Request
	name string
	body []byte
}

// arm routes by path. ARM's paths are case-insensitive.
func (s *Server) arm() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			(&apiError{HTTP: http.StatusRequestEntityTooLarge, Code: "RequestBodyTooLarge", Message: err.Error()}).write(w)
			return
		}
		if r.URL.Query().Get("api-version") == "" {
			(&apiError{HTTP: http.StatusBadRequest, Code: "MissingApiVersionParameter", Message: "The api-version query parameter (?api-version=) is required for all requests."}).write(
				w,
			)
			return
		}
		c := &call{w: w, r: r, body: body}
		handle := s.route(c)
		if handle == nil {
			(&apiError{HTTP: http.StatusNotFound, Code: "NoRegisteredProviderFound", Message: fmt.Sprintf("No registered resource provider found for %s %s.", r.Method, r.URL.Path)}).write(
				w,
			)
			return
		}
		s.serve(c, handle)
	})
}

// serve applies hooks, faults, throttling and authorization to a call, in Azure's order.
func (s *Server) serve(c *call, handle func(*call) *apiError) {
	s.mutex.Lock()
	s.sequence++
	c.Sequence = s.sequence
	c.complete()
	hook := s.options.OnRequest
	s.mutex.Unlock()
	if answered := s.options.OnAnswer; answered != nil {
		recorder := &recorder{ResponseWriter: c.w}
		c.w = recorder
		defer func() { answered(recorder.answer(c.Request, s.now())) }()
	}
	verdict := Serve
	if hook != nil {
		verdict = hook(c.Request)
	}
	drop := s.handle(c, verdict, handle)
	s.poke()
	if drop {
		panic(http.ErrAbortHandler)
	}
}

// handle carries out a call. It returns whether the connection must be cut.
func (s *Server) handle(c *call, verdict Verdict, handle func(*call) *apiError) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.advance()
	asked := s.asked(c)
	if verdict == DropBefore {
		asked.refused(Dropped)
		panic(http.ErrAbortHandler)
	}
	s.calls[c.Verb]++
	fault := s.match(c.Request, s.subject(c))
	if fault != nil && fault.Drop == DropBefore {
		asked.refused(Dropped)
		panic(http.ErrAbortHandler)
	}
	if fault != nil && fault.Error != nil {
		asked.refused(fault.Error.Code)
		fault.Error.write(c.w)
		return verdict == DropAfter
	}
	drop := verdict == DropAfter || fault != nil && fault.Drop == DropAfter
	if drop {
		c.w = discard{}
	}
	if !s.authorized(c.w, c.r) {
		asked.refused("Unauthorized")
		return drop
	}
	if err := s.attempt(c, handle); err != nil {
		asked.refused(err.Code)
		err.write(c.w)
		return drop
	}
	if c.Write {
		asked.accepted()
		s.dirty = true
	}
	s.keep()
	return drop
}

// attempt calls the handler unless the call is throttled or the cluster does not accept writes.
func (s *Server) attempt(c *call, handle func(*call) *apiError) *apiError {
	if err := s.throttle(c.Request); err != nil {
		return err
	}
	if c.Write && s.power != PowerRunning {
		return &apiError{HTTP: http.StatusConflict, Code: "OperationNotAllowed", AKS: true,
			Message: fmt.Sprintf("managed cluster is in (%s) state, operations on its agent pools are not allowed", s.power)}
	}
	return handle(c)
}

// subject returns the pool of a call: the existing one, or the one that a PUT describes.
func (s *Server) subject(c *call) *pool {
	if p := s.pools[c.Pool]; p != nil || c.Verb != "putPool" {
		return p
	}
	var body putBody
	if decode(c.body, &body) != nil {
		return nil
	}
	return &pool{Name: c.Pool, Properties: body.Properties}
}

// discard drops the response of a call whose connection is cut afterwards.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func (s *Server) route(c *call) func(*call) *apiError {
	parts := strings.Split(strings.Trim(c.r.URL.Path, "/"), "/")
	lower := make([]string, len(parts))
	for i, part := range parts {
		lower[i] = strings.ToLower(part)
	}
	if len(lower) < 4 || lower[0] != "subscriptions" || !strings.EqualFold(parts[1], s.options.SubscriptionID) {
		return nil
	}
	get := c.r.Method == http.MethodGet
	if lower[2] == "providers" {
		return s.routeProvider(c, lower[3], lower[4:], get)
	}
	if len(lower) < 8 || lower[2] != "resourcegroups" || lower[6] != "managedclusters" {
		return nil
	}
	if !strings.EqualFold(parts[3], s.options.ResourceGroup) {
		return fail(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", parts[3])
	}
	if !strings.EqualFold(parts[7], s.options.ClusterName) {
		return fail(
			http.StatusNotFound, "ResourceNotFound",
			"The Resource 'Microsoft.ContainerService/managedClusters/%s' under resource group '%s' was not found.", parts[7],
			parts[3],
		)
	}
	rest := parts[8:]
	if len(rest) == 0 {
		c.Verb = "getCluster"
		return only(get, s.getCluster)
	}
	if !strings.EqualFold(rest[0], "agentPools") {
		return nil
	}
	return s.routePool(c, rest[1:], get)
}

func (s *Server) routePool(c *call, rest []string, get bool) func(*call) *apiError {
	if len(rest) == 0 {
		c.Verb = "listPools"
		return only(get, s.listPools)
	}
	c.Pool = rest[0]
	switch {
	case len(rest) == 1 && get:
		c.Verb = "getPool"
		return s.getPool
	case len(rest) == 1 && c.r.Method == http.MethodPut:
		c.Verb, c.Write = "putPool", true
		return s.putPool
	case len(rest) == 1 && c.r.Method == http.MethodDelete:
		c.Verb, c.Write = "deletePool", true
		return s.deletePool
	case len(rest) >= 2 && strings.EqualFold(rest[1], "machines"):
		c.Verb = "listMachines"
		if len(rest) == 3 {
			c.Verb, c.name = "getMachine", rest[2]
			return only(get, s.getMachine)
		}
		return only(get, s.listMachines)
	case len(rest) == 2 && c.r.Method == http.MethodPost && strings.EqualFold(rest[1], "deleteMachines"):
		c.Verb, c.Write = "deleteMachines", true
		return s.deleteMachines
	case len(rest) == 2 && c.r.Method == http.MethodPost && strings.EqualFold(rest[1], "abort"):
		c.Verb, c.Write = "abort", true
		return s.abort
	}
	return nil
}

// routeProvider serves the resources of a location: operations, usages, SKUs.
func (s *Server) routeProvider(c *call, provider string, rest []string, get bool) func(*call) *apiError {
	switch {
	case provider == "microsoft.containerservice" && len(rest) == 4 && rest[2] == "operations":
		c.Verb, c.name, c.Operation = "operation", rest[3], rest[3]
		return only(get, s.getOperation)
	case provider == "microsoft.containerservice" && len(rest) == 4 && rest[2] == "operationresults":
		c.Verb, c.name, c.Operation = "operationResult", rest[3], rest[3]
		return only(get, s.getOperationResult)
	case provider == "microsoft.compute" && len(rest) == 3 && rest[2] == "usages":
		c.Verb = "listUsages"
		return only(get, s.listUsages)
	case provider == "microsoft.compute" && len(rest) == 1 && rest[0] == "skus":
		c.Verb = "listSKUs"
		return only(get, s.listSKUs)
	}
	return nil
}

func only(yes bool, handle func(*call) *apiError) func(*call) *apiError {
	if !yes {
		return fail(http.StatusMethodNotAllowed, "MethodNotAllowed", "The method is not allowed.")
	}
	return handle
}

func fail(status int, code, format string, args ...any) func(*call) *apiError {
	return func(*call) *apiError {
		return &apiError{HTTP: status, Code: code, Message: fmt.Sprintf(format, args...)}
	}
}

func (s *Server) clusterID() string {
	return fmt.Sprintf("/subscriptions/%s/resourcegroups/%s/providers/Microsoft.ContainerService/managedClusters/%s",
		s.options.SubscriptionID, s.options.ResourceGroup, s.options.ClusterName)
}

func (s *Server) getCluster(c *call) *apiError {
	power, provisioning := s.power.answers()
	s.powerRead, s.powerReadAt = s.power, s.now()
	respond(c.w, http.StatusOK, map[string]any{
		"id":       s.clusterID(),
		"name":     s.options.ClusterName,
		"type":     "Microsoft.ContainerService/ManagedClusters",
		"location": s.options.Location,
		"properties": map[string]any{
			"provisioningState": provisioning, "powerState": map[string]any{"code": power},
			"nodeResourceGroup": s.options.NodeResourceGroup, "kubernetesVersion": "1.36",
		},
	})
	return nil
}

// complete reads what hooks and faults need of a call.
func (c *call) complete() {
	switch c.Verb {
	case "listPools", "listMachines", "listUsages", "listSKUs":
		c.Page, _ = c.from()
	case "putPool":
		var body struct {
			Properties struct {
				Count int `json:"count"`
			} `json:"properties"`
		}
		if decode(c.body, &body) == nil { // otherwise the handler returns the error
			c.Count = body.Properties.Count
		}
	}
}

func decode(body []byte, into any) *apiError {
	if err := json.Unmarshal(body, into); err != nil {
		return &apiError{
			HTTP:    http.StatusBadRequest,
			Code:    "InvalidRequestContent",
			Message: "The request content was invalid and could not be deserialized: " + err.Error(),
		}
	}
	return nil
}
