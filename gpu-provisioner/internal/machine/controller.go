// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoevents "k8s.io/client-go/tools/events"
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
	"kaito.sh/shared/events"
	"kaito.sh/shared/flow"
	"kaito.sh/shared/patch"
)

// A Machine gets a finalizer and the labels of its Node.
// +kubebuilder:rbac:groups=karpenter.sh,resources=machines,verbs=list;watch;patch
// The reconciler writes the conditions of Machines.
// +kubebuilder:rbac:groups=karpenter.sh,resources=machines/status,verbs=patch
// Owner references with blockOwnerDeletion need this right where the admission plugin
// OwnerReferencesPermissionEnforcement is on.
// +kubebuilder:rbac:groups=karpenter.sh,resources=machines/finalizers,verbs=update
// The reconciler creates one NodeClaim for each Machine, and deletes it with the Machine.
// +kubebuilder:rbac:groups=karpenter.sh,resources=nodeclaims,verbs=list;watch;create;patch;delete
// The operator records events on NodeClaims and Machines.
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// EvidenceFinalizer keeps a NodeClaim until the Machine's status contains the NodeClaim's. Karpenter deletes a claim
// that cannot be launched, and with it the reason.
const EvidenceFinalizer = "kaito.sh/machine-evidence"

// Config is what the reconciler needs.
type Config struct {
	// Client reads from a cache.
	Client client.Client
	Events clientgoevents.EventRecorder
	Clock  clock.PassiveClock
	// NodeClass is the KaitoNodeClass of Machines that name none.
	NodeClass string
}

// Reconciler reconciles Machines.
type Reconciler struct{ Config }

// New returns a Reconciler.
func New(c Config) *Reconciler { return &Reconciler{c} }

// concurrency is the number of Machines that are reconciled at once. A burst of Machines becomes NodeClaims within
// seconds, so that their pools grow by one request.
const concurrency = 10

// SetupWithManager adds the controller to the manager.
func (r *Reconciler) SetupWithManager(_ context.Context, mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("machine").
		For(&karpenterv1alpha5.Machine{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			m, ok := o.(*karpenterv1alpha5.Machine)
			return ok && managed(m)
		}))).
		Owns(&karpv1.NodeClaim{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency}).
		Complete(r)
}

// Reconcile creates or deletes the NodeClaim of a Machine and mirrors its status. It writes nothing when nothing has
// changed.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	return flow.RequeueConflict(r.reconcile(ctx, request))
}

func (r *Reconciler) reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	m := &karpenterv1alpha5.Machine{}
	err := r.Client.Get(ctx, request.NamespacedName, m)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, err
	}
	gone := err != nil
	if !gone && !managed(m) {
		return reconcile.Result{}, nil
	}
	claim, err := r.claim(ctx, request.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	if gone {
		return reconcile.Result{}, r.releaseClaim(ctx, claim)
	}
	if !m.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, r.finalize(ctx, m, claim)
	}
	if added, err := patch.Finalizer(ctx, r.Client, m, karpenterv1alpha5.TerminationFinalizer, true); added || err != nil {
		return reconcile.Result{}, err // the watch event reconciles the Machine again
	}
	if claim == nil && m.GetCondition(karpenterv1alpha5.ConditionMachineLaunched) == nil {
		// A Machine with a status had a claim. A claim is deleted only after its status was mirrored, so a claim that failed
		// is not created again.
		return reconcile.Result{}, r.create(ctx, m)
	}
	written, err := r.mirror(ctx, m, claim)
	if err != nil || written {
		return reconcile.Result{}, err
	}
	// The Machine that was read already has the claim's status.
	return reconcile.Result{}, r.releaseClaim(ctx, claim)
}

// claim returns the NodeClaim of that name, or nil.
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
		// The Machine's schema allows more than the NodeClaim's.
		return r.reject(ctx, m, err)
	}
	return client.IgnoreAlreadyExists(err)
}

// reject writes that no valid NodeClaim can be built from the Machine.
func (r *Reconciler) reject(ctx context.Context, m *karpenterv1alpha5.Machine, why error) error {
	stored := m.DeepCopy()
	s := newStatus(m, r.Clock)
	s.set(karpenterv1alpha5.ConditionMachineLaunched, corev1.ConditionFalse, karpenterv1alpha5.ReasonInvalidMachine,
		"the Machine's spec is not valid for a NodeClaim: "+why.Error())
	s.ready()
	_, err := r.write(ctx, stored, m)
	return err
}

// mirror writes the claim's status, or the absence of the claim, to the Machine. It returns whether it wrote anything.
func (r *Reconciler) mirror(ctx context.Context, m *karpenterv1alpha5.Machine, claim *karpv1.NodeClaim) (bool, error) {
	stored := m.DeepCopy()
	s := newStatus(m, r.Clock)
	switch {
	case claim == nil:
		s.gone()
	case !metav1.IsControlledBy(claim, m):
		s.fail(karpenterv1alpha5.ConditionMachineLaunched, karpenterv1alpha5.ReasonNameTaken,
			"NodeClaim %s exists and is not owned by this Machine. Give the Machine another name", claim.Name)
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
		r.recordFailures(stored, m)
	}
	return labelled || written, err
}

// label copies the labels that `kubectl get machines` shows.
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

// recordFailures records an event for each condition that has become False.
func (r *Reconciler) recordFailures(before, after *karpenterv1alpha5.Machine) {
	for _, c := range after.Status.Conditions {
		if c.Type == karpenterv1alpha5.ConditionReady || c.Status != corev1.ConditionFalse {
			continue
		}
		if old := before.GetCondition(c.Type); old == nil || old.Status != c.Status || old.Reason != c.Reason {
			events.Publish(r.Events, after, corev1.EventTypeWarning, c.Reason, c.Message)
		}
	}
}

// releaseClaim removes our finalizer from a claim that is being deleted, once Karpenter has removed its own. The
// Machine can be gone before its claim, and the cluster's garbage collector then deletes the claim: a user has removed
// the Machine's finalizer, or the API server deleted the Machine before it had the finalizer.
func (r *Reconciler) releaseClaim(ctx context.Context, claim *karpv1.NodeClaim) error {
	if claim == nil || claim.DeletionTimestamp.IsZero() ||
		controllerutil.ContainsFinalizer(claim, karpv1.TerminationFinalizer) {
		return nil
	}
	_, err := patch.Finalizer(ctx, r.Client, claim, EvidenceFinalizer, false)
	return client.IgnoreNotFound(err)
}

// finalize deletes the Machine's claim, and removes the Machine's finalizer when the claim and its Node are gone.
func (r *Reconciler) finalize(ctx context.Context, m *karpenterv1alpha5.Machine, claim *karpv1.NodeClaim) error {
	if claim != nil && metav1.IsControlledBy(claim, m) {
		if claim.DeletionTimestamp.IsZero() {
			return client.IgnoreNotFound(r.Client.Delete(ctx, claim, client.Preconditions{UID: &claim.UID}))
		}
		return r.releaseClaim(ctx, claim)
	}
	_, err := patch.Finalizer(ctx, r.Client, m, karpenterv1alpha5.TerminationFinalizer, false)
	return client.IgnoreNotFound(err)
}
