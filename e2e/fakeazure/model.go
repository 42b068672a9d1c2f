// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Provisioning states of a pool.
const (
	stateCreating  = "Creating"
	stateScaling   = "Scaling"
	stateUpdating  = "Updating"
	stateDeleting  = "Deleting"
	stateUpgrading = "Upgrading"
	stateCanceling = "Canceling"
	stateCanceled  = "Canceled"
	stateSucceeded = "Succeeded"
	stateFailed    = "Failed"
	// stateUpgradingImage is the state of a pool during an upgrade of only its node image.
	stateUpgradingImage = "UpgradingNodeImageVersion"
)

// pool is an agent pool. It keeps properties as received, so that a client reads what it sent.
type pool struct {
	Name              string            `json:"name"`
	Properties        map[string]any    `json:"properties"`
	Tags              map[string]string `json:"tags,omitempty"`
	Count             int               `json:"count"`
	ETag              int               `json:"etag"`
	ProvisioningState string            `json:"provisioningState"`
	Next              int               `json:"next"`
	Machines          []*machine        `json:"machines,omitempty"`
	Operation         string            `json:"operation,omitempty"`
	Ghosts            []ghost           `json:"ghosts,omitempty"`
	Retagged          time.Time         `json:"retagged,omitzero"`
}

// machine is a VM of a pool.
type machine struct {
	Index    int       `json:"index"`
	Listed   time.Time `json:"listed"`
	JoinAt   time.Time `json:"joinAt"`
	Joined   bool      `json:"joined,omitempty"`
	Never    bool      `json:"never,omitempty"`
	NoGPU    bool      `json:"noGPU,omitempty"`
	NotReady bool      `json:"notReady,omitempty"`
	Zone     string    `json:"zone,omitempty"`
	// Surge is true for a machine that exists only during an upgrade.
	Surge   bool     `json:"surge,omitempty"`
	Reimage *reimage `json:"reimage,omitempty"`
}

// operation is an operation that a write started.
type operation struct {
	ID     string    `json:"id"`
	Pool   string    `json:"pool"`
	Kind   string    `json:"kind"`
	Start  time.Time `json:"start"`
	Due    time.Time `json:"due"`
	Hangs  bool      `json:"hangs,omitempty"`
	Status string    `json:"status"`
	Error  *apiError `json:"error,omitempty"`
	// Fails is the error that the operation ends with.
	Fails *apiError `json:"fails,omitempty"`
	// Gone are the indexes of the machines that deleteMachines deletes.
	Gone []int `json:"gone,omitempty"`
	// Rollout is the state of an upgrade.
	Rollout *rollout `json:"rollout,omitempty"`

	// missing returns how many of the requested machines are not created. Nil: none.
	missing func(wanted int) int
}

// Statuses of an operation.
const (
	operationRunning   = "InProgress"
	operationSucceeded = "Succeeded"
	operationFailed    = "Failed"
	operationCanceled  = "Canceled"
)

func (p *pool) text(name string) string {
	value, _ := p.Properties[name].(string)
	return value
}

func (p *pool) texts(name string) []string {
	list, _ := p.Properties[name].([]any)
	var out []string
	for _, item := range list {
		out = append(out, fmt.Sprint(item))
	}
	return out
}

func (p *pool) spot() bool { return strings.EqualFold(p.text("scaleSetPriority"), "Spot") }

func (p *pool) driver() bool {
	profile, _ := p.Properties["gpuProfile"].(map[string]any)
	driver, _ := profile["driver"].(string)
	return !strings.EqualFold(driver, "None")
}

func (p *pool) labels() map[string]string {
	out := map[string]string{}
	labels, _ := p.Properties["nodeLabels"].(map[string]any)
	for key, value := range labels {
		out[key] = fmt.Sprint(value)
	}
	return out
}

func (p *pool) find(index int) *machine {
	for _, m := range p.Machines {
		if m.Index == index {
			return m
		}
	}
	return nil
}

// scaleSet returns the name that AKS gives to a pool's scale set. The number is the cluster's.
func scaleSet(pool string) string { return "aks-" + pool + "-31415926-vmss" }

// machineName returns the scale set's name and the instance's number in six base-36 digits, like VMSS.
func machineName(pool string, index int) string {
	digits := strconv.FormatInt(int64(index), 36)
	return scaleSet(pool) + strings.Repeat("0", max(0, 6-len(digits))) + digits
}

func indexOf(name string) (int, bool) {
	if len(name) < 6 {
		return 0, false
	}
	n, err := strconv.ParseInt(name[len(name)-6:], 36, 32)
	return int(n), err == nil
}

// resourceID returns a machine's ID like ARM: with the node resource group in its original letter case.
func (s *Server) resourceID(p *pool, m *machine) string {
	return fmt.Sprintf(
		"/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/virtualMachineScaleSets/%s/virtualMachines/%d",
		s.options.SubscriptionID, s.options.NodeResourceGroup, scaleSet(p.Name), m.Index,
	)
}

func (s *Server) vm(p *pool, m *machine) VM {
	group := strings.ToLower(s.options.NodeResourceGroup)
	return VM{
		Name:     machineName(p.Name, m.Index),
		Pool:     p.Name,
		Size:     p.text("vmSize"),
		Location: s.options.Location,
		Zone:     m.Zone,
		Spot:     p.spot(),
		ProviderID: fmt.Sprintf(
			"azure:///subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/virtualMachineScaleSets/%s/virtualMachines/%d",
			s.options.SubscriptionID,
			group,
			scaleSet(p.Name),
			m.Index,
		),
		Labels:        p.labels(),
		Taints:        p.texts("nodeTaints"),
		GPU:           p.driver() && !m.NoGPU,
		NotReady:      m.NotReady,
		ClusterID:     s.options.ClusterName,
		ResourceGroup: group,
	}
}

// State is a snapshot for tests.
type State struct {
	Pools      []PoolState
	PowerState string
	// Calls are counted by verb, Throttled by bucket.
	Calls     map[string]int
	Throttled int
	// Writes are all writes that were requested, including rejected ones, in order.
	Writes []Write
	// Running are the pools with a running operation.
	Running []string
}

// PoolState is the state of one agent pool.
type PoolState struct {
	Name, Size, ProvisioningState string
	Count                         int
	Tags                          map[string]string
	// Machines are the existing machines by provider ID, independent of lists.
	Machines []string
	// Surge are those machines that an upgrade will remove.
	Surge []string
	// Autoscaled is true when the cluster autoscaler is on.
	Autoscaled bool
}

// State returns a snapshot of the cloud.
func (s *Server) State() State {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.advance()
	out := State{
		PowerState: string(s.power),
		Calls:      maps.Clone(s.calls),
		Throttled:  s.throttled,
		Writes:     slices.Clone(s.writes),
	}
	for _, name := range s.poolNames() {
		p := s.pools[name]
		state := PoolState{
			Name:              name,
			Size:              p.text("vmSize"),
			ProvisioningState: p.ProvisioningState,
			Count:             p.Count,
			Tags:              maps.Clone(p.Tags),
			Autoscaled:        p.autoscaled(),
		}
		for _, m := range p.Machines {
			if !m.Listed.After(s.now()) {
				state.Machines = append(state.Machines, s.vm(p, m).ProviderID)
				if m.Surge {
					state.Surge = append(state.Surge, s.vm(p, m).ProviderID)
				}
			}
		}
		out.Pools = append(out.Pools, state)
		if p.Operation != "" {
			out.Running = append(out.Running, name)
		}
	}
	return out
}

func (s *Server) poolNames() []string {
	names := make([]string, 0, len(s.pools))
	for name := range s.pools {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
