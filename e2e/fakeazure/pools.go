// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
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

type putBody struct {
	Properties map[string]any `json:"properties"`
}

func (s *Server) putPool(c *call) *apiError {
	var body putBody
	if err := decode(c.body, &body); err != nil {
		return err
	}
	p := s.pools[c.Pool]
	if err := precondition(c.r, p); err != nil {
		return err
	}
	if err := s.busy(p); err != nil {
		return err
	}
	count, tags, err := split(body.Properties)
	if err != nil {
		return err
	}
	if p == nil {
		return s.createPool(c, body.Properties, count, tags)
	}
	return s.updatePool(c, p, body.Properties, count, tags)
}

// split removes the properties that are stored separately, and read-only ones.
func split(properties map[string]any) (int, map[string]string, *apiError) {
	number, _ := properties["count"].(float64)
	count := int(number)
	if count < 0 || count > maxPoolNodes {
		return 0, nil, &apiError{
			HTTP: http.StatusBadRequest,
			Code: "InvalidParameter",
			AKS:  true,
			Message: fmt.Sprintf(
				"The value of parameter agentPoolProfile.count is invalid: %d; it must be from 0 to %d.", count, maxPoolNodes,
			),
		}
	}
	tags := map[string]string{}
	given, _ := properties["tags"].(map[string]any)
	for key, value := range given {
		tags[key] = fmt.Sprint(value)
	}
	for _, key := range []string{"count", "tags", "provisioningState", "powerState", "eTag"} {
		delete(properties, key)
	}
	return count, tags, nil
}

func (s *Server) createPool(c *call, properties map[string]any, count int, tags map[string]string) *apiError {
	switch size, _ := properties["vmSize"].(string); {
	case !poolName.MatchString(c.Pool):
		return &apiError{
			HTTP:    http.StatusBadRequest,
			Code:    "InvalidParameter",
			AKS:     true,
			Message: fmt.Sprintf("The value of parameter agentPoolProfile.name is invalid: %q.", c.Pool),
		}
	case len(s.pools) >= maxPools:
		return &apiError{
			HTTP:    http.StatusBadRequest,
			Code:    "InvalidParameter",
			AKS:     true,
			Message: fmt.Sprintf("The number of agent pools would be over the limit of %d.", maxPools),
		}
	case size == "":
		return &apiError{
			HTTP:    http.StatusBadRequest,
			Code:    "InvalidParameter",
			AKS:     true,
			Message: "The value of parameter agentPoolProfile.vmSize is missing.",
		}
	case !s.offered(size):
		return &apiError{
			HTTP: http.StatusBadRequest,
			Code: "VMSizeNotSupported",
			AKS:  true,
			Message: fmt.Sprintf(
				"Virtual Machine size: '%s' is not supported for subscription %s in location '%s'.", size, s.options.SubscriptionID,
				s.options.Location,
			),
		}
	}
	p := &pool{Name: c.Pool, Properties: properties, Tags: tags, ProvisioningState: stateCreating}
	if err := s.quota(p, count); err != nil {
		return err
	}
	s.pools[c.Pool] = p
	s.grow(c, p, count, "Creating", s.options.Durations.CreatePool)
	respond(c.w, http.StatusCreated, s.render(p))
	return nil
}

func (s *Server) updatePool(c *call, p *pool, properties map[string]any, count int, tags map[string]string) *apiError {
	for _, key := range immutable {
		before, after := p.Properties[key], properties[key]
		switch {
		case after == nil && before != nil: // a PUT may omit it
			properties[key] = before
		case before == nil && slices.Contains(defaulted, key):
			// AKS chose a value that the fake does not model.
		case after != nil && !reflect.DeepEqual(before, after):
			return &apiError{HTTP: http.StatusBadRequest, Code: "PropertyChangeNotAllowed", AKS: true,
				Message: fmt.Sprintf("Changing property 'properties.%s' is not allowed.", key)}
		}
	}
	if p.autoscaled() && properties["enableAutoScaling"] == true && count != p.Count {
		// The text is from https://github.com/Azure/AKS/issues/1248. The az CLI rejects the same change itself
		// (https://github.com/Azure/azure-cli/pull/13996).
		return &apiError{
			HTTP: http.StatusBadRequest,
			Code: "BadRequest",
			AKS:  true,
			Message: fmt.Sprintf(
				"Cannot manually scale and enable cluster autoscaler in the same update operation on VMSS Agentpool '%s'.", p.Name,
			),
		}
	}
	if err := s.quota(p, count-len(p.Machines)); err != nil {
		return err
	}
	p.Properties, p.Tags, p.ProvisioningState = properties, tags, stateUpdating
	if count != p.Count {
		p.ProvisioningState = stateScaling
	}
	s.grow(c, p, count, "Updating", s.options.Durations.Scale)
	respond(c.w, http.StatusOK, s.render(p))
	return nil
}

// grow starts the operation that changes a pool's count. A lower count deletes the newest machines, as AKS does: the
// client cannot choose.
func (s *Server) grow(c *call, p *pool, count int, kind string, takes time.Duration) {
	op := s.begin(c, p, kind, takes)
	wanted := count - len(p.Machines)
	p.Count = count
	allocated := max(wanted, 0)
	if op.missing != nil && wanted > 0 {
		allocated = wanted - op.missing(wanted)
	}
	for range allocated {
		s.boot(p)
	}
	for wanted < 0 && len(p.Machines) > 0 && len(p.Machines) > count {
		s.leave(p, p.Machines[len(p.Machines)-1])
	}
}

func (s *Server) boot(p *pool) {
	d, now := s.options.Durations, s.now()
	m := &machine{Index: p.Next, Listed: now.Add(d.VMBoot), JoinAt: now.Add(d.VMBoot + d.NodeJoin)}
	if zones := p.texts("availabilityZones"); len(zones) > 0 {
		m.Zone = zones[p.Next%len(zones)]
	}
	if f := s.matchMachine(p); f != nil {
		m.Never, m.NoGPU, m.NotReady = f.NeverJoins, f.NoGPU, f.NotReady
	}
	p.Next++
	p.Machines = append(p.Machines, m)
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

func (s *Server) deleteMachines(c *call) *apiError {
	p, err := s.pool(c.Pool)
	if err != nil {
		return err
	}
	if err := s.busy(p); err != nil {
		return err
	}
	var body struct {
		MachineNames []string `json:"machineNames"`
	}
	if err := decode(c.body, &body); err != nil {
		return err
	}
	var gone []int
	for _, name := range body.MachineNames {
		index, ok := indexOf(name)
		if !ok || p.find(index) == nil || machineName(p.Name, index) != name {
			return &apiError{
				HTTP:    http.StatusBadRequest,
				Code:    "InvalidParameter",
				AKS:     true,
				Message: fmt.Sprintf("Cannot find machine %s in agent pool %s.", name, p.Name),
			}
		}
		gone = append(gone, index)
	}
	op := s.begin(c, p, "DeletingMachines", s.options.Durations.DeleteMachines)
	op.Gone = gone
	p.ProvisioningState = stateDeleting
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

func (s *Server) listMachines(c *call) *apiError {
	p, err := s.pool(c.Pool)
	if err != nil {
		return err
	}
	var items []item
	for _, m := range s.listed(p) {
		items = append(items, item{machineName(p.Name, m.Index), s.renderMachine(p, m)})
	}
	s.page(c, s.garbled(c, p, items))
	return nil
}

func (s *Server) getMachine(c *call) *apiError {
	p, err := s.pool(c.Pool)
	if err != nil {
		return err
	}
	if index, ok := indexOf(c.name); ok {
		if m := p.find(index); m != nil && !m.Listed.After(s.now()) {
			respond(c.w, http.StatusOK, s.renderMachine(p, m))
			return nil
		}
	}
	return &apiError{HTTP: http.StatusNotFound, Code: "NotFound", AKS: true, Message: "Machine not found."}
}

func (s *Server) renderMachine(p *pool, m *machine) map[string]any {
	return map[string]any{
		"id":   s.clusterID() + "/agentPools/" + p.Name + "/machines/" + machineName(p.Name, m.Index),
		"name": machineName(p.Name, m.Index), "type": "Microsoft.ContainerService/managedClusters/agentPools/machines",
		"properties": map[string]any{
			"resourceId": s.resourceID(p, m),
			"network": map[string]any{
				"ipAddresses": []any{map[string]any{"family": "IPv4", "ip": "10.224.0." + strconv.Itoa(4+m.Index%250)}},
			},
		},
	}
}
