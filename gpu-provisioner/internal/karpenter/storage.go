// SPDX-License-Identifier: Apache-2.0

package karpenter

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/offering"
)

// diskClient renames the request for storage in each NodeClaim that Karpenter reads to the name that a Node reports.
// KAITO's claims request `storage`, and Karpenter considers a claim initialized only when its Node reports every
// requested resource. The stored claim stays unchanged: Karpenter writes differences from what it has read, and these
// never contain the request. See docs/adr/0005-storage-requests.md.
type diskClient struct{ client.Client }

func (c diskClient) Get(
	ctx context.Context, key client.ObjectKey, object client.Object, opts ...client.GetOption,
) error {
	err := c.Client.Get(ctx, key, object, opts...)
	renameStorage(object)
	return err
}

func (c diskClient) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	err := c.Client.List(ctx, list, opts...)
	if claims, ok := list.(*karpv1.NodeClaimList); ok {
		for i := range claims.Items {
			renameStorage(&claims.Items[i])
		}
	}
	return err
}

// Patch renames the request in the API server's response as well.
func (c diskClient) Patch(
	ctx context.Context, object client.Object, patch client.Patch, opts ...client.PatchOption,
) error {
	err := c.Client.Patch(ctx, object, patch, opts...)
	renameStorage(object)
	return err
}

func (c diskClient) Status() client.SubResourceWriter { return diskStatus{c.Client.Status()} }

type diskStatus struct{ client.SubResourceWriter }

func (c diskStatus) Patch(
	ctx context.Context, object client.Object, patch client.Patch, opts ...client.SubResourcePatchOption,
) error {
	err := c.SubResourceWriter.Patch(ctx, object, patch, opts...)
	renameStorage(object)
	return err
}

func renameStorage(object client.Object) {
	if claim, ok := object.(*karpv1.NodeClaim); ok {
		claim.Spec.Resources.Requests = offering.Requests(claim.Spec.Resources.Requests)
	}
}
