// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/offering"
)

// diskClient shows core a claim's disk under the name that a Node reports: core holds a claim to be initialized when
// its Node reports all that the claim asks for, and KAITO's claims ask for `storage`. The stored claim, whose spec is
// immutable, stays as it is: what core writes are differences from what it was shown, and the disk never differs. See
// docs/adr/0005-storage-requests.md.
type diskClient struct{ client.Client }

func (c diskClient) Get(
	ctx context.Context, key client.ObjectKey, object client.Object, opts ...client.GetOption,
) error {
	err := c.Client.Get(ctx, key, object, opts...)
	showDisk(object)
	return err
}

func (c diskClient) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	err := c.Client.List(ctx, list, opts...)
	if claims, ok := list.(*karpv1.NodeClaimList); ok {
		for i := range claims.Items {
			showDisk(&claims.Items[i])
		}
	}
	return err
}

// Patch reads the answer into the object, with the stored spec.
func (c diskClient) Patch(
	ctx context.Context, object client.Object, patch client.Patch, opts ...client.PatchOption,
) error {
	err := c.Client.Patch(ctx, object, patch, opts...)
	showDisk(object)
	return err
}

func (c diskClient) Status() client.SubResourceWriter { return diskStatus{c.Client.Status()} }

type diskStatus struct{ client.SubResourceWriter }

func (c diskStatus) Patch(
	ctx context.Context, object client.Object, patch client.Patch, opts ...client.SubResourcePatchOption,
) error {
	err := c.SubResourceWriter.Patch(ctx, object, patch, opts...)
	showDisk(object)
	return err
}

func showDisk(object client.Object) {
	if claim, ok := object.(*karpv1.NodeClaim); ok {
		claim.Spec.Resources.Requests = offering.Requests(claim.Spec.Resources.Requests)
	}
}
