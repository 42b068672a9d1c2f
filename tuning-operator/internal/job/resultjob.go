// SPDX-License-Identifier: Apache-2.0

package job

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/podspec"
	"kaito.sh/shared/trust"
	"kaito.sh/tuning-operator/internal/message"
)

// Resolve is the container of the Job that asks the registry for a result.
const Resolve = string(message.StepResolve)

const (
	// resolveSeconds is how long that Job may take: it needs no GPU, but perhaps a place on a node.
	resolveSeconds = 30 * 60
	// resolveKept is for how long it is left for people to look at.
	resolveKept = 60 * 60
)

const (
	// resolveName is how many characters the name of that Job has: the most that a label, and so a Job's name, may have.
	// No Job that trains has more than maxName, so that no TuningJob's name leads to this one.
	resolveName = 63
	// resolvePlain is how many of them may be the TuningJob's, for people. At least 34 are left for a hash: 136 bits.
	resolvePlain = 20
)

// ResultJobName of the Job that asks the registry: NAME-result-HASH, always of 63 characters.
func ResultJobName(tj *tuningv1alpha1.TuningJob) string {
	plain := strings.ReplaceAll(tj.Name, ".", "-")
	start := strings.TrimRight(plain[:min(len(plain), resolvePlain)], "-") + "-result-"
	sum := sha256.Sum256([]byte(tj.Name))
	return start + hex.EncodeToString(sum[:])[:resolveName-len(start)]
}

// ResultJob renders the Job that asks the registry what the push has left there. The operator may not read the push
// secret; a pod that has it mounted may. It runs on any node, since those of the TuningJob may be gone.
func ResultJob(tj *tuningv1alpha1.TuningJob, o Options) *batchv1.Job {
	c := container(Resolve, o.RunnerImage)
	c.Args = append(runnerArgs("resolve"), "--image="+podspec.Escape(tj.Spec.Output.Image))
	c.Resources = small("50m", "64Mi", "256Mi")
	if o.AllowPrivateSources {
		c.Args = append(c.Args, "--allow-private")
	}
	pod := bare(tj)
	pod.Spec.Volumes = []corev1.Volume{empty(volumeWork), empty(volumeTemp)}
	for _, s := range pushSecret(tj) {
		c.Args = append(c.Args, "--credentials="+s.file())
		requireSecret(&c, s, "PUSH")
		pod.Spec.Volumes = append(pod.Spec.Volumes, s.source())
	}
	pod.Spec.Containers = []corev1.Container{c}
	trust.Add(&pod.Spec, o.Authorities, Resolve)
	return &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: ResultJobName(tj), Namespace: tj.Namespace, Labels: labels(tj)},
		Spec: batchv1.JobSpec{
			BackoffLimit:            ptr.To[int32](defaultBackoffLimit),
			ActiveDeadlineSeconds:   ptr.To[int64](resolveSeconds),
			TTLSecondsAfterFinished: ptr.To[int32](resolveKept),
			PodFailurePolicy:        failurePolicy(),
			Template:                pod,
		},
	}
}
