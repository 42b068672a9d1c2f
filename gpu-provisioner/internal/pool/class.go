// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
)

// Classes reads node classes.
type Classes struct{ Client client.Reader }

// Of returns the node class of a claim. It returns a *ClassError if the class does not exist or is not Ready.
func (c Classes) Of(ctx context.Context, claim *karpv1.NodeClaim) (Class, error) {
	name := claim.Spec.NodeClassRef.Name
	class := &nodeclassv1alpha1.KaitoNodeClass{}
	err := c.Client.Get(ctx, types.NamespacedName{Name: name}, class)
	if apierrors.IsNotFound(err) {
		return Class{}, &ClassError{
			fmt.Sprintf("KaitoNodeClass %q does not exist. Create it, or set spec.nodeClassRef to another class", name),
		}
	}
	if err != nil {
		return Class{}, fmt.Errorf("reading KaitoNodeClass %s: %w", name, err)
	}
	ready := meta.FindStatusCondition(class.Status.Conditions, nodeclassv1alpha1.ConditionReady)
	switch {
	case ready == nil || ready.ObservedGeneration != class.Generation:
		return Class{}, &ClassError{fmt.Sprintf("KaitoNodeClass %q has not been validated yet", name)}
	case ready.Status != "True":
		return Class{}, &ClassError{fmt.Sprintf("KaitoNodeClass %q is not Ready: %s: %s", name, ready.Reason, ready.Message)}
	}
	return ClassFrom(class), nil
}

// ClassFrom converts a KaitoNodeClass. It applies the defaults of the CRD, which objects of tests may lack.
func ClassFrom(in *nodeclassv1alpha1.KaitoNodeClass) Class {
	s := in.Spec
	return Class{
		Name:                       in.Name,
		ImageFamily:                string(orDefault(s.ImageFamily, nodeclassv1alpha1.ImageFamilyUbuntu)),
		OSDiskSizeGiB:              deref(s.OSDiskSizeGiB),
		OSDiskType:                 string(orDefault(s.OSDiskType, nodeclassv1alpha1.OSDiskManaged)),
		InstallGPUDriver:           s.GPUDriver != nodeclassv1alpha1.GPUDriverNone,
		Zones:                      s.Zones,
		SubnetID:                   s.SubnetID,
		Tags:                       s.Tags,
		SpotMaxPrice:               s.SpotMaxPrice,
		MaxPods:                    deref(s.MaxPods),
		CapacityReservationGroupID: s.CapacityReservationGroupID,
		MaxNodesPerPool:            int(deref(s.MaxNodesPerPool)),
	}
}

func orDefault[T ~string](v, d T) T {
	if v == "" {
		return d
	}
	return v
}

func deref(p *int32) int32 {
	if p == nil {
		return 0
	}
	return *p
}
