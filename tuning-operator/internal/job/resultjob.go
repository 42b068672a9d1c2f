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

// Resolve is the name of the result Job's container.
const Resolve = string(message.StepResolve)

const (
	// resultDeadline is the time in seconds that the result Job has. It needs no GPU, but it may wait for a node.
	resultDeadline = 30 * 60
	// resultTTL is the time in seconds that the finished result Job is kept for people to read.
	resultTTL = 60 * 60
)

const (
	// resultNameLength is the length of the name of the result Job: the longest that a label, and so a Job's name, may
	// have. The names of Jobs that train have at most maxName characters, so that the two never collide.
	resultNameLength = 63
	// resultNamePlain is the number of characters of the TuningJob's name in it, for people to read. At least 34 are left
	// for the hash: 136 bits.
	resultNamePlain = 20
)

// ResultJobName returns the name of the result Job: NAME-result-HASH, always with 63 characters.
func ResultJobName(tj *tuningv1alpha1.TuningJob) string {
	plain := strings.ReplaceAll(tj.Name, ".", "-")
	start := strings.TrimRight(plain[:min(len(plain), resultNamePlain)], "-") + "-result-"
	sum := sha256.Sum256([]byte(tj.Name))
	return start + hex.EncodeToString(sum[:])[:resultNameLength-len(start)]
}

// ResultJob renders the Job that asks the registry for the digest of a pushed adapter. The operator may not read the
// push secret, but a pod can mount it. The Job runs on any node, because the nodes of the TuningJob may be gone.
func ResultJob(tj *tuningv1alpha1.TuningJob, o Options) *batchv1.Job {
	c := container(Resolve, o.RunnerImage)
	c.Args = append(runnerArgs("resolve"), "--image="+podspec.Escape(tj.Spec.Output.Image))
	c.Resources = small("50m", "64Mi", "256Mi")
	if o.AllowPrivateSources {
		c.Args = append(c.Args, "--allow-private")
	}
	pod := basePod(tj)
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
			ActiveDeadlineSeconds:   ptr.To[int64](resultDeadline),
			TTLSecondsAfterFinished: ptr.To[int32](resultTTL),
			PodFailurePolicy:        failurePolicy(),
			Template:                pod,
		},
	}
}
