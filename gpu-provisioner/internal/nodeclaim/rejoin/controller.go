// SPDX-License-Identifier: Apache-2.0

package rejoin

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

// Config is what the reconciler needs.
type Config struct{ Client client.Client }

// Reconciler restores the labels, annotations, taints, owner and finalizer of a Node that registers again. Karpenter
// writes them only once in a claim's life, but the Node object is replaced when a user deletes it or when a stopped
// cluster starts. Without the claim's labels, the pods of its Workspace cannot be scheduled to the Node.
type Reconciler struct{ Config }

// New returns a Reconciler.
func New(c Config) *Reconciler { return &Reconciler{c} }

// SetupWithManager adds the controller to the manager.
func (r *Reconciler) SetupWithManager(_ context.Context, mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("rejoin").
		For(&corev1.Node{}).
		Complete(reconcile.AsReconciler(mgr.GetClient(), r))
}

// Reconcile handles Nodes without Karpenter's label of registration whose claim is registered.
func (r *Reconciler) Reconcile(ctx context.Context, node *corev1.Node) (reconcile.Result, error) {
	if node.Labels[karpv1.NodeRegisteredLabelKey] == "true" || !node.DeletionTimestamp.IsZero() ||
		node.Spec.ProviderID == "" {
		return reconcile.Result{}, nil
	}
	claim, err := nodeutils.NodeClaimForNode(ctx, r.Client, node)
	if err != nil {
		return reconcile.Result{}, nodeutils.IgnoreDuplicateNodeClaimError(nodeutils.IgnoreNodeClaimNotFoundError(err))
	}
	if !claim.StatusConditions().Get(karpv1.ConditionTypeRegistered).IsTrue() || !claim.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil // Karpenter handles the first registration
	}
	stored := node.DeepCopy()
	restore(node, claim)
	if equality.Semantic.DeepEqual(stored, node) {
		return reconcile.Result{}, nil
	}
	err = r.Client.Patch(ctx, node, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return reconcile.Result{}, nil // the event of the other write reconciles the Node again
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("restoring the metadata of Node %s: %w", node.Name, err)
	}
	log.FromContext(ctx).Info("Restored the metadata of a Node that registered again", "NodeClaim", claim.Name)
	return reconcile.Result{}, nil
}

// restore writes to the Node what Karpenter writes at the first registration, except for the startup taints: their
// conditions were met then.
func restore(node *corev1.Node, claim *karpv1.NodeClaim) {
	controllerutil.AddFinalizer(node, karpv1.TerminationFinalizer)
	nodeclaimutils.UpdateNodeOwnerReferences(claim, node)
	node.Spec.Taints = scheduling.Taints(node.Spec.Taints).Merge(claim.Spec.Taints)
	node.Labels = merge(node.Labels, claim.Labels)
	node.Annotations = merge(node.Annotations, claim.Annotations)
	node.Labels[karpv1.NodeRegisteredLabelKey] = "true"
	if claim.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() {
		node.Labels[karpv1.NodeInitializedLabelKey] = "true"
	}
}

// merge returns the union of a and b; the values of b win.
func merge(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}
