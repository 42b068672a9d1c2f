// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/patch"
)

// A node class is read for its claims; whether it can be used is written into its status.
// +kubebuilder:rbac:groups=kaito.sh,resources=kaitonodeclasses,verbs=list;watch
// +kubebuilder:rbac:groups=kaito.sh,resources=kaitonodeclasses/status,verbs=patch

// NodeClasses says of every KaitoNodeClass whether nodes of it can be made.
type NodeClasses struct{ Client client.Client }

// SetupWithManager adds the controller.
func (n *NodeClasses) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).Named("kaitonodeclass").For(&nodeclassv1alpha1.KaitoNodeClass{}).Complete(n)
}

// Reasons of a node class.
const (
	reasonValid       = "Valid"
	reasonInvalidSpec = "InvalidSpec"
)

// Reconcile checks what the schema cannot.
func (n *NodeClasses) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	class := &nodeclassv1alpha1.KaitoNodeClass{}
	if err := n.Client.Get(ctx, request.NamespacedName, class); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	before := class.DeepCopy()
	if problem := check(class); problem != "" {
		conditions.False(class, conditions.Ready, reasonInvalidSpec, problem)
	} else {
		conditions.True(class, conditions.Ready, reasonValid, "nodes of this class can be asked for")
	}
	class.Status.ObservedGeneration = class.Generation
	_, err := patch.Status(ctx, n.Client, before, class)
	return reconcile.Result{}, client.IgnoreNotFound(err)
}

// check returns what is wrong, "" when nothing is.
func check(class *nodeclassv1alpha1.KaitoNodeClass) string {
	keys := make([]string, 0, len(class.Spec.Tags))
	for k := range class.Spec.Tags {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		// https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources#limitations
		if k == "" || len(k) > 512 || strings.ContainsAny(k, `<>%&\?/`) {
			return fmt.Sprintf(`spec.tags: the key %q is not allowed by Azure: 1-512 characters without < > %% & \ ? /`, k)
		}
		if v := class.Spec.Tags[k]; len(v) > 256 {
			return fmt.Sprintf("spec.tags[%s] has %d characters; Azure allows 256", k, len(v))
		}
	}
	if class.Spec.CapacityReservationGroupID != "" && class.Spec.SpotMaxPrice != "" {
		return "spec.spotMaxPrice and spec.capacityReservationGroupID exclude each other: a capacity reservation holds no spot nodes; make two classes"
	}
	return ""
}
