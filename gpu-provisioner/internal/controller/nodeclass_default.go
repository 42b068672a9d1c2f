// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
)

// The class that claims name when they name none is made when it is missing; what a user makes of it stays.
// +kubebuilder:rbac:groups=kaito.sh,resources=kaitonodeclasses,verbs=create

// DefaultNodeClass makes the class of a name when the operator starts and there is none: `kubectl apply -k` of a CRD
// and an object of it fails the first time, so the class does not come with the manifests.
type DefaultNodeClass struct {
	Client client.Client
	Name   string
}

// SetupWithManager adds it to what the leader runs.
func (d *DefaultNodeClass) SetupWithManager(mgr ctrl.Manager) error { return mgr.Add(d) }

// Start makes the class, if it is missing.
func (d *DefaultNodeClass) Start(ctx context.Context) error {
	err := d.Client.Get(ctx, client.ObjectKey{Name: d.Name}, &nodeclassv1alpha1.KaitoNodeClass{})
	if err == nil {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("looking for KaitoNodeClass %s: %w", d.Name, err)
	}
	class := &nodeclassv1alpha1.KaitoNodeClass{ObjectMeta: metav1.ObjectMeta{Name: d.Name}}
	if err := d.Client.Create(ctx, class); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making KaitoNodeClass %s: %w", d.Name, err)
	}
	return nil
}
