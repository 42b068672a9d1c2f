// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"strings"
)

// ProviderID converts the resource ID of a scale set's machine, in any letter case, to the provider ID of its Node:
// azure:// and the ID with its fixed segments in the documented case and a lower-case resource group. The cloud
// provider (convertResourceGroupNameToLower) lower-cases only the group, too. It returns "" for other IDs.
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

// PoolOf returns the name of the agent pool of a machine, from its provider ID, or "". AKS names the scale set of a
// pool aks-POOL-NUMBER-vmss, and a pool's name has no hyphen. KAITO does the same (ParseAgentPoolNameFromID in its
// gpu-provisioner).
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
