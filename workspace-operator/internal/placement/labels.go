// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	kubeletapis "k8s.io/kubelet/pkg/apis"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// reservedDomains are those whose labels mean something to Kubernetes, Karpenter or AKS, with all domains below them. A
// tenant who could put such a label on a new node could take over another node's name, attract pods that are meant for
// trusted nodes, or take the node out of load balancers.
//
//   - kubernetes.io and k8s.io are reserved by the API conventions, and protected by the admission plugin
//     NodeRestriction (https://kubernetes.io/docs/reference/labels-annotations-taints/).
//   - kubernetes.azure.com is AKS's (https://learn.microsoft.com/azure/aks/use-labels#reserved-system-labels).
//   - Karpenter names its own.
var reservedDomains = append(
	[]string{"kubernetes.io", "k8s.io", "kubernetes.azure.com", "karpenter.azure.com"},
	karpv1.RestrictedLabelDomains.UnsortedList()...)

// CheckLabels says what is wrong with the labels that a new node would get, naming the first key that is not allowed,
// its value and what is. Where no node is created, any label may be asked for.
func CheckLabels(r Request) error {
	required := map[string]string{}
	for _, q := range r.requirements() {
		required[q.key] = q.value
	}
	for _, key := range slices.Sorted(maps.Keys(r.Labels)) {
		value := r.Labels[key]
		if wrong := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(wrong) > 0 {
			return labelError(key, value, "it can't be a label: "+strings.Join(wrong, "; "))
		}
		if !reserved(key) {
			continue
		}
		// A node of this size has these anyway: what the kubelet may set of itself and Karpenter knows of a size.
		if own, ok := required[key]; ok && own == value && karpv1.WellKnownLabels.Has(key) &&
			kubeletapis.IsKubeletLabel(key) {
			continue
		}
		return labelError(
			key,
			value,
			fmt.Sprintf(
				"a node would be created, and its labels of %s are not for users to set", strings.SplitN(key, "/", 2)[0],
			),
		)
	}
	return nil
}

func reserved(key string) bool {
	domain, _, prefixed := strings.Cut(key, "/")
	return prefixed &&
		slices.ContainsFunc(reservedDomains, func(d string) bool { return domain == d || strings.HasSuffix(domain, "."+d) })
}

func labelError(key, value, why string) error {
	return fmt.Errorf(
		"resource.labelSelector.matchLabels[%s] is %q: %s. Allowed are keys of your own, such as apps or example.com/team, "+
			"and what the size says (node.kubernetes.io/instance-type, kubernetes.io/os, kubernetes.io/arch). "+
			"To select existing nodes by any label, set resource.provisioning to Never",
		key,
		value,
		why,
	)
}
