// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// Tags of the agent pools that the gpu-provisioner creates (see its README). The plugin ignores other pools.
const (
	tagManagedBy   = "kaito.sh_managed-by"
	tagPoolKey     = "kaito.sh_pool-key"
	managedByValue = "gpu-provisioner"
)

// agentPool is one element of `az aks nodepool list -o json`.
type agentPool struct {
	Name              string            `json:"name"`
	Count             int               `json:"count"`
	ProvisioningState string            `json:"provisioningState"`
	VMSize            string            `json:"vmSize"`
	Tags              map[string]string `json:"tags"`
}

func (p agentPool) managed() bool {
	return p.Tags[tagManagedBy] == managedByValue && p.Tags[tagPoolKey] != ""
}

// settled reports whether no operation runs on the pool.
func (p agentPool) settled() bool {
	switch p.ProvisioningState {
	case "Succeeded", "Failed", "Canceled":
		return true
	}
	return false
}

func readPools(file string, in io.Reader) ([]agentPool, error) {
	text, err := func() ([]byte, error) {
		if file == "-" {
			return io.ReadAll(in)
		}
		return os.ReadFile(file)
	}()
	if err != nil {
		return nil, fmt.Errorf("--pools: %w", err)
	}
	var pools []agentPool
	if err := json.Unmarshal(text, &pools); err != nil {
		return nil, fmt.Errorf("--pools %s: not the output of az aks nodepool list -o json: %w", file, err)
	}
	for _, p := range pools {
		if p.Name == "" {
			return nil, errors.New("--pools " + file + ": a pool has no name: use the output of az aks nodepool list -o json")
		}
	}
	return pools, nil
}

// AKS names the scale set of an agent pool aks-<pool>-<digits>-vmss, and its machines <scale
// set>/virtualMachines/<number>.
var scaleSet = regexp.MustCompile(`(?i)/virtualMachineScaleSets/aks-([a-z0-9]+)-[0-9]+-vmss/virtualMachines/`)

// poolOf returns the agent pool of a machine from its provider id; empty if it is not a machine of AKS.
func poolOf(providerID string) string {
	found := scaleSet.FindStringSubmatch(providerID)
	if found == nil {
		return ""
	}
	return strings.ToLower(found[1])
}
