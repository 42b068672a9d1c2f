// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	corecloud "sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"kaito.sh/gpu-provisioner/internal/offering"
)

// GetInstanceTypes returns the catalogue's sizes with their regional offerings. Unavailable offerings are marked.
func (p *Provider) GetInstanceTypes(context.Context, *karpv1.NodePool) ([]*corecloud.InstanceType, error) {
	view, _ := p.Views.View()
	var out []*corecloud.InstanceType
	for _, size := range p.Catalog.Sizes() {
		it := &corecloud.InstanceType{
			Name: size.Name,
			Requirements: scheduling.NewRequirements(
				scheduling.NewRequirement(corev1.LabelInstanceTypeStable, corev1.NodeSelectorOpIn, size.Name),
				scheduling.NewRequirement(corev1.LabelOSStable, corev1.NodeSelectorOpIn, string(corev1.Linux)),
				scheduling.NewRequirement(corev1.LabelArchStable, corev1.NodeSelectorOpIn, karpv1.ArchitectureAmd64),
				scheduling.NewRequirement(corev1.LabelTopologyRegion, corev1.NodeSelectorOpIn, view.Cluster.Location),
				scheduling.NewRequirement(karpv1.CapacityTypeLabelKey, corev1.NodeSelectorOpIn, offering.OnDemand, offering.Spot),
			),
			Capacity: size.Capacity(),
			Overhead: &corecloud.InstanceTypeOverhead{},
		}
		for _, capacityType := range []string{offering.OnDemand, offering.Spot} {
			available := p.Engine.Memory().
				Unavailable(offering.Offering{Size: size.Name, Family: size.Family, CapacityType: capacityType}) ==
				nil
			it.Offerings = append(it.Offerings, &corecloud.Offering{
				Requirements: scheduling.NewRequirements(
					scheduling.NewRequirement(karpv1.CapacityTypeLabelKey, corev1.NodeSelectorOpIn, capacityType),
					scheduling.NewRequirement(corev1.LabelTopologyZone, corev1.NodeSelectorOpExists),
				),
				Price:     p.Catalog.Price(size.Name, view.Cluster.Location, capacityType),
				Available: available,
			})
		}
		out = append(out, it)
	}
	return out, nil
}
