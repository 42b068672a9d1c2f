// SPDX-License-Identifier: Apache-2.0

package nodeclass

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
)

// The operator creates the default class if it does not exist, and never changes it.
// +kubebuilder:rbac:groups=kaito.sh,resources=kaitonodeclasses,verbs=create

// Default creates the default KaitoNodeClass when the operator starts. The manifests do not contain the class, because
// the first `kubectl apply -k` of a CRD together with an object of its kind fails.
type Default struct {
	client client.Client
	name   string
}

// NewDefault returns a Default that creates the class of that name.
func NewDefault(c client.Client, name string) *Default { return &Default{client: c, name: name} }

// SetupWithManager adds it to the manager; only the leader runs it.
func (d *Default) SetupWithManager(_ context.Context, mgr ctrl.Manager) error { return mgr.Add(d) }

// Start creates the class if it does not exist.
func (d *Default) Start(ctx context.Context) error {
	err := d.client.Get(ctx, client.ObjectKey{Name: d.name}, &nodeclassv1alpha1.KaitoNodeClass{})
	if err == nil {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading KaitoNodeClass %s: %w", d.name, err)
	}
	class := &nodeclassv1alpha1.KaitoNodeClass{ObjectMeta: metav1.ObjectMeta{Name: d.name}}
	if err := d.client.Create(ctx, class); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating KaitoNodeClass %s: %w", d.name, err)
	}
	return nil
}
