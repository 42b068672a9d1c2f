// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	nodeutils "sigs.k8s.io/karpenter/pkg/utils/node"
	nodeclaimutils "sigs.k8s.io/karpenter/pkg/utils/nodeclaim"
)

// A Node that registers again gets its labels, taints, owner and finalizer.
// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch;patch
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodeclaims,verbs=list;watch
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodeclaims/finalizers,verbs=update

// Rejoins gives a Node that registered again what core put on it the first time: labels, annotations, taints, owner and
// finalizer. Core does so once in a claim's life; but a Node object is another one when somebody deleted it behind
// everybody's back, or when a stopped cluster starts, and without the claim's labels no pod of its Workspace finds it.
type Rejoins struct{ Client client.Client }

// SetupWithManager adds the controller.
func (r *Rejoins) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("rejoin").
		For(&corev1.Node{}).
		Complete(reconcile.AsReconciler(mgr.GetClient(), r))
}

// Reconcile looks at Nodes that core has not registered, of claims that it has. A Node that it has costs a look at a
// label.
func (r *Rejoins) Reconcile(ctx context.Context, node *corev1.Node) (reconcile.Result, error) {
	if node.Labels[karpv1.NodeRegisteredLabelKey] == "true" || !node.DeletionTimestamp.IsZero() ||
		node.Spec.ProviderID == "" {
		return reconcile.Result{}, nil
	}
	claim, err := nodeutils.NodeClaimForNode(ctx, r.Client, node)
	if err != nil {
		return reconcile.Result{}, nodeutils.IgnoreDuplicateNodeClaimError(nodeutils.IgnoreNodeClaimNotFoundError(err))
	}
	if !claim.StatusConditions().Get(karpv1.ConditionTypeRegistered).IsTrue() || !claim.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil // the first time is core's; and who goes needs nothing any more
	}
	stored := node.DeepCopy()
	controllerutil.AddFinalizer(node, karpv1.TerminationFinalizer)
	nodeclaimutils.UpdateNodeOwnerReferences(claim, node)
	// Not the startup taints: what they wait for was there.
	node.Spec.Taints = scheduling.Taints(node.Spec.Taints).Merge(claim.Spec.Taints)
	node.Labels = merged(node.Labels, claim.Labels)
	node.Annotations = merged(node.Annotations, claim.Annotations)
	node.Labels[karpv1.NodeRegisteredLabelKey] = "true"
	if claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() {
		node.Labels[karpv1.NodeInitializedLabelKey] = "true"
	}
	if equality.Semantic.DeepEqual(stored, node) {
		return reconcile.Result{}, nil
	}
	err = r.Client.Patch(ctx, node, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return reconcile.Result{}, nil // its event brings us back
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("giving Node %s what it had: %w", node.Name, err)
	}
	log.FromContext(ctx).Info("Gave a Node that registered again what it had", "NodeClaim", claim.Name)
	return reconcile.Result{}, nil
}

// merged is both, the second one's values first.
func merged(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}
