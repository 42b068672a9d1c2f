// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/watch"
)

// Indexed gives a fake client the indexes that Setup gives the caches.
func Indexed(b *fake.ClientBuilder) *fake.ClientBuilder {
	if err := watch.Index(context.Background(), builderIndexer{b}); err != nil {
		panic(err)
	}
	for field, values := range watch.ClaimIndexes() {
		for _, obj := range []client.Object{&karpenterv1alpha5.Machine{}, placement.NodeClaims{}.Object()} {
			b.WithIndex(obj, field, values)
		}
	}
	return b
}

type builderIndexer struct{ *fake.ClientBuilder }

// IndexField adds an index to the fake client to be.
func (b builderIndexer) IndexField(
	_ context.Context, obj client.Object, field string, values client.IndexerFunc,
) error {
	b.WithIndex(obj, field, values)
	return nil
}

// ReadObjects reads a fixture of objects.
var ReadObjects = readObjects
