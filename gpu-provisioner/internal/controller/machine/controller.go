// SPDX-License-Identifier: Apache-2.0

// Package machine handles Machines (karpenter.sh/v1alpha5): one Machine is one NodeClaim of the same name, which core
// handles; its status is mirrored back, and stays when the NodeClaim has gone.
package machine

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/excerpt"
	"kaito.sh/shared/patch"
)

// A Machine gets a finalizer and the labels of its node.
// +kubebuilder:rbac:groups=karpenter.sh,resources=machines,verbs=list;watch;patch
// Its progress is mirrored into its status.
// +kubebuilder:rbac:groups=karpenter.sh,resources=machines/status,verbs=patch
// Owner references with blockOwnerDeletion need this where OwnerReferencesPermissionEnforcement is on.
// +kubebuilder:rbac:groups=karpenter.sh,resources=machines/finalizers,verbs=update
// One NodeClaim is made for each Machine, and deleted with it.
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodeclaims,verbs=list;watch;create;patch;delete

// EvidenceFinalizer keeps a NodeClaim until the Machine's status has what it tells. Core deletes a claim that cannot be
// launched, and its reason with it.
const EvidenceFinalizer = "kaito.sh/machine-evidence"

// Reconciler reconciles Machines.
type Reconciler struct {
	Client   client.Client
	Clock    clock.PassiveClock
	Recorder record.EventRecorder
	// NodeClass is the class of a Machine that names none.
	NodeClass string
}

// concurrency has a burst of Machines become NodeClaims within seconds, so that their pools grow by one request and not
// by many.
const concurrency = 10

// SetupWithManager adds the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("machine").
		For(&karpenterv1alpha5.Machine{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			m, ok := o.(*karpenterv1alpha5.Machine)
			return ok && ours(m)
		}))).
		Owns(&karpv1.NodeClaim{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency}).
		Complete(r)
}

// Reconcile brings a Machine and its NodeClaim together. It only reads caches; a pass that changes nothing writes
// nothing.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	result, err := r.reconcile(ctx, request)
	if apierrors.IsConflict(err) {
		// The cache was behind somebody's write, whose event brings us back.
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	return result, err
}

func (r *Reconciler) reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	m := &karpenterv1alpha5.Machine{}
	err := r.Client.Get(ctx, request.NamespacedName, m)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, err
	}
	gone := err != nil
	if !gone && !ours(m) {
		return reconcile.Result{}, nil
	}
	claim, err := r.claim(ctx, request.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	if gone {
		return reconcile.Result{}, r.letGo(ctx, claim)
	}
	if !m.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, r.finalize(ctx, m, claim)
	}
	if added, err := patch.Finalizer(ctx, r.Client, m, karpenterv1alpha5.TerminationFinalizer, true); added || err != nil {
		return reconcile.Result{}, err // the watch brings us back
	}
	if claim == nil && m.GetCondition(karpenterv1alpha5.ConditionMachineLaunched) == nil {
		// Only a Machine whose status was never written gets a claim: a claim goes only when the status has its evidence, so
		// that one that failed is never made again.
		return reconcile.Result{}, r.create(ctx, m)
	}
	written, err := r.mirror(ctx, m, claim)
	if err != nil || written {
		return reconcile.Result{}, err
	}
	// Nothing was left to write: the status that was read has what the claim tells, which may go.
	return reconcile.Result{}, r.letGo(ctx, claim)
}

// claim returns the NodeClaim of a Machine's name, nil when there is none.
func (r *Reconciler) claim(ctx context.Context, name string) (*karpv1.NodeClaim, error) {
	claim := &karpv1.NodeClaim{}
	err := r.Client.Get(ctx, client.ObjectKey{Name: name}, claim)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading NodeClaim %s: %w", name, err)
	}
	return claim, nil
}

func (r *Reconciler) create(ctx context.Context, m *karpenterv1alpha5.Machine) error {
	claim := build(m, r.NodeClass)
	log.FromContext(ctx).Info("Creating a NodeClaim", "NodeClaim", claim.Name)
	err := r.Client.Create(ctx, claim)
	if apierrors.IsInvalid(err) {
		// The Machine's schema is wider than the NodeClaim's: what the latter refuses will stay refused.
		return r.refuse(ctx, m, err)
	}
	return client.IgnoreAlreadyExists(err)
}

func (r *Reconciler) refuse(ctx context.Context, m *karpenterv1alpha5.Machine, why error) error {
	stored := m.DeepCopy()
	s := newStatus(m, r.Clock)
	s.set(
		karpenterv1alpha5.ConditionMachineLaunched, corev1.ConditionFalse, ReasonInvalidMachine,
		"the Machine cannot be expressed as a NodeClaim: "+why.Error(),
	)
	s.ready()
	_, err := r.write(ctx, stored, m)
	return err
}

// mirror writes what the claim tells, or that it has gone, into the Machine; it says whether there was anything to
// write.
func (r *Reconciler) mirror(ctx context.Context, m *karpenterv1alpha5.Machine, claim *karpv1.NodeClaim) (bool, error) {
	stored := m.DeepCopy()
	s := newStatus(m, r.Clock)
	switch {
	case claim == nil:
		s.gone()
	case !metav1.IsControlledBy(claim, m):
		s.set(karpenterv1alpha5.ConditionMachineLaunched, corev1.ConditionFalse, ReasonNameTaken, fmt.Sprintf(
			"a NodeClaim named %s exists and belongs to somebody else; give the Machine another name", claim.Name))
	default:
		s.follow(claim)
	}
	s.ready()
	labelled, err := r.label(ctx, stored, m, claim)
	if err != nil {
		return false, err
	}
	written, err := r.write(ctx, stored, m)
	if written {
		r.tell(stored, m)
	}
	return labelled || written, err
}

// label copies the labels that the Machine's columns show.
func (r *Reconciler) label(
	ctx context.Context, stored, m *karpenterv1alpha5.Machine, claim *karpv1.NodeClaim,
) (bool, error) {
	if claim == nil {
		return false, nil
	}
	labelled := stored.DeepCopy()
	for _, key := range []string{corev1.LabelInstanceTypeStable, corev1.LabelTopologyZone, karpv1.CapacityTypeLabelKey} {
		if v := claim.Labels[key]; v != "" {
			metav1.SetMetaDataLabel(&labelled.ObjectMeta, key, v)
		}
	}
	if equality.Semantic.DeepEqual(labelled.Labels, stored.Labels) {
		return false, nil
	}
	if err := r.Client.Patch(ctx, labelled, client.MergeFrom(stored)); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	m.Labels, m.ResourceVersion = labelled.Labels, labelled.ResourceVersion
	stored.Labels, stored.ResourceVersion = labelled.Labels, labelled.ResourceVersion
	return true, nil
}

func (r *Reconciler) write(ctx context.Context, stored, m *karpenterv1alpha5.Machine) (bool, error) {
	written, err := patch.Status(ctx, r.Client, stored, m)
	return written, client.IgnoreNotFound(err)
}

// tell publishes an event when a condition became False.
func (r *Reconciler) tell(before, after *karpenterv1alpha5.Machine) {
	for _, c := range after.Status.Conditions {
		if c.Type == karpenterv1alpha5.ConditionReady || c.Status != corev1.ConditionFalse {
			continue
		}
		if old := before.GetCondition(c.Type); old == nil || old.Status != c.Status || old.Reason != c.Reason {
			r.Recorder.Event(after, corev1.EventTypeWarning, c.Reason, excerpt.Note(c.Message))
		}
	}
}

// letGo removes our finalizer from a claim that is being deleted, when core has removed its own. A Machine may be gone
// before its claim, which the cluster's garbage collector then deletes: somebody has taken the Machine's finalizer
// away, or it was deleted in the moment in which it got one (the API server deletes at once what had no finalizer when
// it looked).
func (r *Reconciler) letGo(ctx context.Context, claim *karpv1.NodeClaim) error {
	if claim == nil || claim.DeletionTimestamp.IsZero() ||
		controllerutil.ContainsFinalizer(claim, karpv1.TerminationFinalizer) {
		return nil
	}
	_, err := patch.Finalizer(ctx, r.Client, claim, EvidenceFinalizer, false)
	return client.IgnoreNotFound(err)
}

// finalize deletes the claim with its Machine, and lets the Machine go when the claim, and so the node, has gone.
func (r *Reconciler) finalize(ctx context.Context, m *karpenterv1alpha5.Machine, claim *karpv1.NodeClaim) error {
	if claim != nil && metav1.IsControlledBy(claim, m) {
		if claim.DeletionTimestamp.IsZero() {
			return client.IgnoreNotFound(r.Client.Delete(ctx, claim, client.Preconditions{UID: &claim.UID}))
		}
		return r.letGo(ctx, claim)
	}
	_, err := patch.Finalizer(ctx, r.Client, m, karpenterv1alpha5.TerminationFinalizer, false)
	return client.IgnoreNotFound(err)
}
