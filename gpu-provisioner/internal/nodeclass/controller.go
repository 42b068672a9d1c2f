// SPDX-License-Identifier: Apache-2.0

package nodeclass

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/patch"
)

// The reconciler reads KaitoNodeClasses and writes the condition Ready.
// +kubebuilder:rbac:groups=kaito.sh,resources=kaitonodeclasses,verbs=list;watch
// +kubebuilder:rbac:groups=kaito.sh,resources=kaitonodeclasses/status,verbs=patch

// Config is what the reconciler needs.
type Config struct{ Client client.Client }

// Reconciler sets the condition Ready of KaitoNodeClasses.
type Reconciler struct{ Config }

// New returns a Reconciler.
func New(c Config) *Reconciler { return &Reconciler{c} }

// SetupWithManager adds the controller to the manager.
func (r *Reconciler) SetupWithManager(_ context.Context, mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("kaitonodeclass").For(&nodeclassv1alpha1.KaitoNodeClass{}).Complete(r)
}

// Reconcile checks what the CRD's schema cannot.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	class := &nodeclassv1alpha1.KaitoNodeClass{}
	if err := r.Client.Get(ctx, request.NamespacedName, class); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	before := class.DeepCopy()
	if problem := validate(class); problem != "" {
		conditions.False(class, conditions.Ready, nodeclassv1alpha1.ReasonInvalidSpec, problem)
	} else {
		conditions.True(class, conditions.Ready, nodeclassv1alpha1.ReasonValid, "NodeClaims can use this class")
	}
	class.Status.ObservedGeneration = class.Generation
	_, err := patch.Status(ctx, r.Client, before, class)
	return reconcile.Result{}, client.IgnoreNotFound(err)
}

// validate returns what is wrong with the class, or "".
func validate(class *nodeclassv1alpha1.KaitoNodeClass) string {
	for _, key := range slices.Sorted(maps.Keys(class.Spec.Tags)) {
		// https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources#limitations
		if key == "" || len(key) > 512 || strings.ContainsAny(key, `<>%&\?/`) {
			return fmt.Sprintf(
				`spec.tags: invalid key %q: Azure allows 1 to 512 characters without < > %% & \ ? /. Rename the tag`, key)
		}
		if value := class.Spec.Tags[key]; len(value) > 256 {
			return fmt.Sprintf("spec.tags[%s]: the value has %d characters; Azure allows 256. Shorten it", key, len(value))
		}
	}
	if class.Spec.CapacityReservationGroupID != "" && class.Spec.SpotMaxPrice != "" {
		return "spec.spotMaxPrice and spec.capacityReservationGroupID exclude each other, because a capacity reservation has no spot machines. Create one class for each"
	}
	return ""
}
