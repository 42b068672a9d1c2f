// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"fmt"
	"strings"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/placement"
)

// usable says how many nodes are usable, and what to know of the plan that they were chosen by.
func usable(s *scope, have, want int) string {
	text := fmt.Sprintf("%d of %d nodes of size %s are usable", have, want, s.choice().InstanceType)
	if p := s.planStatus(); p != nil && len(p.Warnings) > 0 {
		text += ". Note: " + strings.Join(p.Warnings, "; ")
	}
	return text
}

// verdictOnNodes returns whether all nodes are usable, and otherwise why not.
func verdictOnNodes(s *scope, want int, wrong *placement.State) outcome {
	choice, have := s.choice(), len(s.nodes)
	switch {
	case have >= want:
		return succeeded(kaitov1alpha1.ReasonReady, usable(s, have, want))
	case s.refused != nil:
		return *s.refused
	case wrong != nil && wrong.Phase == placement.Ignored:
		return stalled(wrong.Reason, wrong.Message)
	case wrong != nil:
		return unfinished(wrong.Reason, wrong.Message)
	case len(s.existing.Down) > 0:
		return unfinished(kaitov1alpha1.ReasonNodeLost, placement.Unusable(&s.existing.Down[0], 1))
	case s.blocked != nil:
		return *s.blocked
	case len(s.missing) > 0 && s.workspace.Resource.Provisioning == kaitov1alpha1.ProvisioningNever:
		return stalled(kaitov1alpha1.ReasonNoMatchingNode, fmt.Sprintf(
			"resource.provisioning is Never, and %d of %d nodes are there: add nodes with GPUs that match "+
				"resource.labelSelector, or set provisioning to Auto", have, want))
	case len(s.missing) > 0 && s.api == nil:
		return stalled(kaitov1alpha1.ReasonNodeAPIMissing,
			"the cluster serves neither karpenter.sh/v1alpha5 Machine nor karpenter.sh/v1 NodeClaim (or --node-api excludes "+
				"the one that it serves): install a provisioner, for instance gpu-provisioner, or bring your own nodes and set "+
				"resource.provisioning to Never")
	}
	return unfinished(kaitov1alpha1.ReasonProvisioning,
		fmt.Sprintf("%d nodes of size %s (%s) are requested", want, choice.InstanceType, choice.CapacityType))
}
