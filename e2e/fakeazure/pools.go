// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// poolName is AKS's rule for the name of a Linux pool.
var poolName = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)

// immutable are the properties that AKS does not allow to change.
var immutable = []string{
	"vmSize",
	"osType",
	"osSKU",
	"osDiskSizeGB",
	"osDiskType",
	"scaleSetPriority",
	"scaleSetEvictionPolicy",
	"spotMaxPrice",
	"availabilityZones",
	"gpuInstanceProfile",
	"vnetSubnetID",
	"maxPods",
	"capacityReservationGroupID",
}

// defaulted are the properties that AKS sets to a default.
var defaulted = []string{
	"osType",
	"osSKU",
	"osDiskSizeGB",
	"osDiskType",
	"scaleSetPriority",
	"scaleSetEvictionPolicy",
	"spotMaxPrice",
	"maxPods",
}

func (s *Server) render(p *pool) map[string]any {
	properties := map[string]any{}
	for key, value := range p.Properties {
		properties[key] = value
	}
	properties["count"] = p.Count
	properties["provisioningState"] = p.ProvisioningState
	power, _ := s.power.answers()
	properties["powerState"] = map[string]any{"code": power}
	properties["eTag"] = etag(p)
	if len(p.Tags) > 0 {
		properties["tags"] = p.Tags
	}
	return map[string]any{
		"id":         s.clusterID() + "/agentPools/" + p.Name,
		"name":       p.Name,
		"type":       "Microsoft.ContainerService/managedClusters/agentPools",
		"properties": properties,
	}
}

func etag(p *pool) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", p.ETag) }

func (s *Server) listPools(c *call) *apiError {
	var items []item
	for _, name := range s.poolNames() {
		items = append(items, item{name, s.render(s.pools[name])})
	}
	s.page(c, s.garbled(c, nil, items))
	return nil
}

func (s *Server) getPool(c *call) *apiError {
	p, err := s.pool(c.Pool)
	if err != nil {
		return err
	}
	respond(c.w, http.StatusOK, s.render(p))
	return nil
}

func (s *Server) pool(name string) (*pool, *apiError) {
	if p := s.pools[name]; p != nil {
		return p, nil
	}
	return nil, &apiError{HTTP: http.StatusNotFound, Code: "NotFound", AKS: true, Subcode: "GetAgentPool_NotFound",
		Message: fmt.Sprintf("Could not find the agent pool %s in managed cluster %s.", name, s.options.ClusterName)}
}

// precondition checks If-Match and If-None-Match of a write.
func precondition(r *http.Request, p *pool) *apiError {
	failed := &apiError{
		HTTP:    http.StatusPreconditionFailed,
		Code:    "PreconditionFailed",
		AKS:     true,
		Message: "The condition specified using HTTP conditional header(s) is not met.",
	}
	if want := strings.Trim(r.Header.Get("If-Match"), `"`); want != "" && want != "*" && (p == nil || want != etag(p)) {
		return failed
	}
	if r.Header.Get("If-None-Match") == "*" && p != nil {
		return failed
	}
	return nil
}

// busy rejects a second operation on a pool.
func (s *Server) busy(p *pool) *apiError {
	if p == nil || p.Operation == "" {
		return nil
	}
	return &apiError{
		HTTP: http.StatusConflict,
		Code: "OperationNotAllowed",
		AKS:  true,
		Message: fmt.Sprintf(
			"Operation is not allowed: Another operation (%s) is in progress, please wait for it to finish before starting a new operation. See https://aka.ms/aks-pending-operation for more details.",
			s.operations[p.Operation].Kind,
		),
	}
}

func (s *Server) deletePool(c *call) *apiError {
	p, err := s.pool(c.Pool)
	if err != nil {
		// ARM answers 204 to the deletion of a resource that does not exist.
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err := precondition(c.r, p); err != nil {
		return err
	}
	if err := s.busy(p); err != nil {
		return err
	}
	p.ProvisioningState = stateDeleting
	s.begin(c, p, "Deleting", s.options.Durations.DeletePool)
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *Server) abort(c *call) *apiError {
	p, err := s.pool(c.Pool)
	if err != nil {
		return err
	}
	if p.Operation == "" {
		return &apiError{
			HTTP:    http.StatusBadRequest,
			Code:    "OperationNotAllowed",
			AKS:     true,
			Message: "There is no operation to abort.",
		}
	}
	running := s.operations[p.Operation]
	for _, m := range p.Machines {
		m.Surge = false // surge machines remain after an abort
	}
	running.Status, running.Error = operationCanceled, &apiError{
		Code:    "OperationPreempted",
		Message: "The operation was preempted by an abort.",
	}
	p.Operation, p.ProvisioningState = "", stateCanceling
	p.ETag++
	p.Count = len(p.Machines)
	s.begin(c, p, "Aborting", time.Second)
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}
