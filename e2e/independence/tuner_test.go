// SPDX-License-Identifier: Apache-2.0

package independence_test

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
)

// annotationGo tells the tuner made by hand how the TuningJob that carries it ends: "well", or by the reason that it
// has.
const annotationGo = "example.com/end"

// handMadeDigest is that of what the tuner made by hand says that it has pushed.
const handMadeDigest = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

// tuner is a tuning operator made by hand: it knows docs/contracts/tuning-operator.md and nothing else. Numbers in
// brackets are the contract's rules. It trains nothing, and says what is asked of it.
type tuner struct{ client client.Client }

func (u *tuner) setup(mgr ctrl.Manager) error {
	u.client = mgr.GetClient()
	return ctrl.NewControllerManagedBy(mgr).For(&tuningv1alpha1.TuningJob{}).Named("hand-made-tuner").Complete(u)
}

func (u *tuner) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	job := &tuningv1alpha1.TuningJob{}
	if err := u.client.Get(ctx, req.NamespacedName, job); err != nil || job.DeletionTimestamp != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := job.DeepCopy()
	switch end := job.Annotations[annotationGo]; end {
	case "":
		say(job, tuningv1alpha1.ConditionRunning, metav1.ConditionTrue, "Training", "")
		job.Status.Progress = &tuningv1alpha1.Progress{Step: 45, TotalSteps: 100}
	case "well":
		say(job, tuningv1alpha1.ConditionRunning, metav1.ConditionFalse, "Succeeded", "")
		say(job, tuningv1alpha1.ConditionSucceeded, metav1.ConditionTrue, "Succeeded", "") // [3]
		job.Status.Output = &tuningv1alpha1.Output{
			Image:  job.Spec.Output.Image + "@" + handMadeDigest,
			Digest: handMadeDigest,
		} // [4]
	default:
		say(job, tuningv1alpha1.ConditionRunning, metav1.ConditionFalse, end, "")
		say(job, tuningv1alpha1.ConditionFailed, metav1.ConditionTrue, end, "the test's tuner was configured to fail") // [3]
	}
	return ctrl.Result{}, u.client.Status().Patch(ctx, job, client.MergeFrom(before))
}

func say(job *tuningv1alpha1.TuningJob, conditionType string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&job.Status.Conditions, metav1.Condition{
		Type: conditionType, Status: status, Reason: reason, Message: message, ObservedGeneration: job.Generation,
	})
}
