// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"kaito.sh/gpu-provisioner/internal/azure"
	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// bind writes the machine to the claim before Karpenter launches the claim. If the claim has changed, its resource
// version makes the patch fail, and the next pass handles the claim.
func (a *actor) bind(ctx context.Context, b Bind) error {
	nc := a.claims[b.Claim]
	now := a.Clock.Now()
	err := a.restartRegistration(ctx, nc, now)
	if err == nil {
		err = a.annotate(
			ctx, nc, map[string]string{AnnotationProviderID: b.ProviderID, AnnotationBoundAt: now.UTC().Format(time.RFC3339)},
		)
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		a.Wake()
		return nil
	}
	if err != nil {
		return fmt.Errorf("binding NodeClaim %s to %s: %w", b.Claim, b.ProviderID, err)
	}
	a.assigned[nc.UID] = assignment{providerID: b.ProviderID, at: now}
	log.FromContext(ctx).Info("Bound a machine", "NodeClaim", b.Claim, "providerID", b.ProviderID, "pool", b.Pool)
	return nil
}

// lateBinding is the age of a claim from which its registration timeout is restarted at the binding.
const lateBinding = 2 * time.Minute

// restartRegistration restarts Karpenter's registration timeout. Karpenter counts 15 minutes from the transition of the
// condition, which is the claim's creation. Without a restart, a claim whose machine took longer would be deleted as
// soon as it is launched.
func (a *actor) restartRegistration(ctx context.Context, nc *karpv1.NodeClaim, now time.Time) error {
	if now.Sub(nc.CreationTimestamp.Time) < lateBinding {
		return nil
	}
	stored := nc.DeepCopy()
	nc.StatusConditions().SetUnknownWithReason(
		karpv1.ConditionTypeRegistered, karpenterv1alpha5.ReasonLaunching, "the machine exists",
	)
	for i := range nc.Status.Conditions {
		if c := &nc.Status.Conditions[i]; c.Type == karpv1.ConditionTypeRegistered {
			c.LastTransitionTime = metav1.NewTime(now)
		}
	}
	return a.Client.Status().Patch(ctx, nc, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{}))
}

// fail writes the failure to the claim. Provider.Create reads it and puts it into the status; only then does Karpenter
// delete the claim.
func (a *actor) fail(ctx context.Context, name string, why *azure.Error) error {
	nc := a.claims[name]
	err := a.annotate(
		ctx, nc,
		map[string]string{AnnotationFailure: Failure{Reason: why.Reason, Message: why.Explain(), Class: why.Class}.encode()},
	)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		a.Wake()
		return nil
	}
	if err != nil {
		return fmt.Errorf("failing NodeClaim %s: %w", name, err)
	}
	a.Metrics.failures.WithLabelValues(PhaseLaunch, why.Reason).Inc()
	a.event(nc, warning, why.Reason, why.Explain())
	return nil
}

func (a *actor) annotate(ctx context.Context, nc *karpv1.NodeClaim, annotations map[string]string) error {
	stored := nc.DeepCopy()
	if nc.Annotations == nil {
		nc.Annotations = map[string]string{}
	}
	for k, v := range annotations {
		nc.Annotations[k] = v
	}
	return a.Client.Patch(ctx, nc, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{}))
}

// lose writes the failure to the condition Registered, which Karpenter leaves alone once it is False, and deletes the
// claim.
func (a *actor) lose(ctx context.Context, l Lose) error {
	nc := a.claims[l.Claim]
	stored := nc.DeepCopy()
	if nc.StatusConditions().SetFalse(karpv1.ConditionTypeRegistered, l.Reason, l.Message) {
		err := a.Client.Status().Patch(ctx, nc, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{}))
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			a.Wake()
			return nil
		}
		if err != nil {
			return fmt.Errorf("writing the failure of NodeClaim %s: %w", l.Claim, err)
		}
		a.Metrics.failures.WithLabelValues(PhaseRegistration, l.Reason).Inc()
		a.event(nc, warning, l.Reason, l.Message)
	}
	if err := a.Client.Delete(ctx, nc, client.Preconditions{UID: &nc.UID}); client.IgnoreNotFound(err) != nil &&
		!apierrors.IsConflict(err) {
		return fmt.Errorf("deleting NodeClaim %s: %w", l.Claim, err)
	}
	return nil
}
