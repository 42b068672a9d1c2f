// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"strings"
)

// ProviderID turns the resource id of a scale set's machine, in whatever case ARM answered, into the provider id that
// AKS puts on the Node: azure:// + the id with its fixed segments in the documented case and a lower-cased resource
// group. The cloud provider's convertResourceGroupNameToLower does the same to the group and to nothing else. It
// returns "" for an id that is not a scale set's machine.
func ProviderID(resourceID string) string {
	id := strings.TrimPrefix(resourceID, "azure://")
	parts := strings.Split(strings.Trim(id, "/"), "/")
	fixed := []string{
		"subscriptions",
		"",
		"resourceGroups",
		"",
		"providers",
		"Microsoft.Compute",
		"virtualMachineScaleSets",
		"",
		"virtualMachines",
		"",
	}
	if len(parts) != len(fixed) {
		return ""
	}
	for i, want := range fixed {
		switch {
		case want == "":
			if parts[i] == "" {
				return ""
			}
		case !strings.EqualFold(parts[i], want):
			return ""
		default:
			parts[i] = want
		}
	}
	parts[1] = strings.ToLower(parts[1])
	parts[3] = strings.ToLower(parts[3])
	return "azure:///" + strings.Join(parts, "/")
}

// PoolOf returns the name of the agent pool that a provider id's machine belongs to, or "" for an id that does not
// tell. AKS names the scale set of a pool aks-POOL-NUMBER-vmss, and the name of a pool has no hyphen; KAITO reads the
// pool from the id in the same way (ParseAgentPoolNameFromID in its gpu-provisioner).
func PoolOf(providerID string) string {
	parts := strings.Split(strings.TrimPrefix(providerID, "azure:///"), "/")
	if len(parts) != 10 || parts[6] != "virtualMachineScaleSets" {
		return ""
	}
	name := strings.Split(parts[7], "-")
	if len(name) != 4 || name[0] != "aks" || name[3] != "vmss" {
		return ""
	}
	return name[1]
}
