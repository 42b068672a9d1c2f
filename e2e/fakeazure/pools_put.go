// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"
)

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
