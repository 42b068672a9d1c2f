// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
)

// onlyExisting limits a request to the sizes of the existing nodes. The error is a *Refusal with the reason
// NoMatchingNode where no node has a known size.
func onlyExisting(r Request, c *catalog.Catalog) (Request, error) {
	r.Forbidden = nil // nothing is rented
	r.Sizes, r.InstanceTypes = sizesOf(r.Existing, r.InstanceTypes, c), nil
	if len(r.Sizes) == 0 {
		return r, &Refusal{
			Reason: kaitov1alpha1.ReasonNoMatchingNode,
			Message: "resource.provisioning is Never, and no node with GPUs that matches resource.labelSelector is ready and " +
				"free: add one, or set provisioning to Auto",
		}
	}
	return r, nil
}

// withoutNewNodes returns requests that need no new node, in order of preference: the choice of the nodes that were
// rented before, then each size of the existing nodes.
func withoutNewNodes(r Request, c *catalog.Catalog) []Request {
	var out []Request
	if kept, ok := keeping(r); ok && !r.OnlyExisting {
		out = append(out, kept)
	}
	sizes := r.Sizes
	if !r.OnlyExisting {
		sizes = sizesOf(r.Existing, r.InstanceTypes, c)
	}
	for _, size := range sizes {
		count := countOf(r.Existing, size, c)
		if r.Count != nil {
			count = min(count, *r.Count)
		}
		if count < 1 {
			continue // the decision over the whole request refuses the count
		}
		free := r
		free.Sizes, free.InstanceTypes, free.Count, free.Forbidden = []catalog.Size{size}, nil, &count, nil
		out = append(out, free)
	}
	return out
}

// keeping limits a request to the choice of the nodes that were rented before; false where that is not allowed any
// more.
func keeping(r Request) (Request, bool) {
	keep := r.Keep
	if keep == nil || !allowed(r.InstanceTypes, keep.InstanceType) {
		return r, false
	}
	capacityTypes := r.CapacityTypes
	if len(capacityTypes) == 0 {
		capacityTypes = []string{catalog.CapacityOnDemand}
	}
	if !allowed(capacityTypes, string(keep.CapacityType)) {
		return r, false
	}
	r.InstanceTypes, r.CapacityTypes = []string{keep.InstanceType}, []string{string(keep.CapacityType)}
	r.Resting, r.Forbidden = nil, nil
	return r, true
}

func allowed(names []string, name string) bool {
	return len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// sizesOf returns the sizes of nodes, each once, by name. Names limits them; empty: all.
func sizesOf(nodes []corev1.Node, names []string, c *catalog.Catalog) []catalog.Size {
	var out []catalog.Size
	for i := range nodes {
		size, known := SizeOf(&nodes[i], c)
		if !known || !allowed(names, size.Name) ||
			slices.ContainsFunc(out, func(o catalog.Size) bool { return o.Name == size.Name }) {
			continue
		}
		out = append(out, size)
	}
	slices.SortFunc(out, func(a, b catalog.Size) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func countOf(nodes []corev1.Node, size catalog.Size, c *catalog.Catalog) int {
	count := 0
	for i := range nodes {
		if s, known := SizeOf(&nodes[i], c); known && s.Name == size.Name {
			count++
		}
	}
	return count
}
