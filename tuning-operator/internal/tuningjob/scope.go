// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/job"
	"kaito.sh/tuning-operator/internal/training"
)

// scope is the state of one pass.
type scope struct {
	// key, tj and before are set by Reconcile. Steps change the status of tj; before is its unchanged copy.
	key        types.NamespacedName
	tj, before *tuningv1alpha1.TuningJob

	// job is set by findJob and createJob. It is nil while the TuningJob has no Job.
	job *batchv1.Job
	// pods are set by findJob: the pods of job, including departed ones.
	pods []corev1.Pod
	// departed is set by findJob: the number of departed pods among pods.
	departed int

	// model is set by resolveModel.
	model job.Model
	// config is set by readConfig.
	config training.Config
	// claim is set by chooseCheckpoint.
	claim job.Claim
	// objects are set by render.
	objects job.Objects
}

// findJob reads the Job and its pods from the cache. It ignores a Job of another owner; createJob reports that one.
func (r *Reconciler) findJob(ctx context.Context, s *scope) error {
	found := &batchv1.Job{}
	err := r.client.Get(ctx, types.NamespacedName{Namespace: s.tj.Namespace, Name: job.Name(s.tj)}, found)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err != nil || !metav1.IsControlledBy(found, s.tj) {
		return nil
	}
	s.job = found
	pods, err := r.listPods(ctx, s.tj)
	if err != nil {
		return err
	}
	departed := r.departed.of(s.key)
	s.departed = len(departed)
	s.pods = owned(append(departed, pods...), found)
	return nil
}

// listPods lists all pods of the TuningJob in the cache, those of the result Job included.
func (r *Reconciler) listPods(ctx context.Context, tj *tuningv1alpha1.TuningJob) ([]corev1.Pod, error) {
	var pods corev1.PodList
	err := r.client.List(
		ctx, &pods, client.InNamespace(tj.Namespace), client.MatchingLabels{job.LabelTuningJob: job.Name(tj)},
	)
	return pods.Items, err
}

// owned returns the pods that the Job controls, each once. Of two versions of a pod it keeps the later one in the list.
func owned(pods []corev1.Pod, by *batchv1.Job) []corev1.Pod {
	index := map[types.UID]int{}
	var out []corev1.Pod
	for i := range pods {
		if !metav1.IsControlledBy(&pods[i], by) {
			continue
		}
		if n, seen := index[pods[i].UID]; seen {
			out[n] = pods[i]
			continue
		}
		index[pods[i].UID] = len(out)
		out = append(out, pods[i])
	}
	return out
}
