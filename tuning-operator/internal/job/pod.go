// SPDX-License-Identifier: Apache-2.0

package job

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/shared/podspec"
	"kaito.sh/shared/trust"
)

// Paths in the containers.
const (
	workDir        = "/var/lib/kaito"
	modelDir       = workDir + "/model"
	dataDir        = workDir + "/data"
	adapterDir     = workDir + "/adapter"
	factsFile      = workDir + "/facts.json"
	trainFile      = workDir + "/train.json"
	checkpointDir  = "/checkpoints"
	outputDir      = "/output"
	secretsDir     = "/credentials"
	terminationLog = "/dev/termination-log"
)

// Names of the volumes.
const (
	volumeWork       = "work"
	volumeTemp       = "tmp"
	volumeShared     = "shm"
	volumeCheckpoint = "checkpoints"
	volumeModel      = "model"
	volumeData       = "data"
	volumeOutput     = "output"
)

func quantity(s string) (resource.Quantity, error) {
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return q, fmt.Errorf("checkpoint size %q: %w", s, err)
	}
	return q, nil
}

func template(in Input, config string, named Volumes) corev1.PodTemplateSpec {
	tj := in.TuningJob
	pod := basePod(tj)
	pod.Spec.TerminationGracePeriodSeconds = ptr.To[int64](graceSeconds)
	pod.Spec.NodeSelector = nodeSelector(tj)
	pod.Spec.Volumes = volumes(in, named)
	pod.Spec.InitContainers = []corev1.Container{fetchContainer(in), trainContainer(in, config)}
	pod.Spec.Containers = []corev1.Container{pushContainer(in)}
	trust.Add(&pod.Spec, in.Options.Authorities, Fetch, Push)
	if nodes(tj) > 1 {
		pod.Spec.Subdomain = ServiceName(tj)
		pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{LabelTuningJob: Name(tj)}},
				TopologyKey:   corev1.LabelHostname,
			}},
		}}
	}
	return pod
}

// basePod returns the parts that all pods of a TuningJob have in common.
func basePod(tj *tuningv1alpha1.TuningJob) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels(tj), Annotations: map[string]string{AnnotationTuningJob: tj.Name}},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			// No container calls the API server: results are termination messages.
			AutomountServiceAccountToken: ptr.To(false),
			EnableServiceLinks:           ptr.To(false),
			SecurityContext:              podspec.PodSecurity(),
			Tolerations:                  podspec.GPUTolerations(tj.Spec.Resources.Tolerations),
		},
	}
}

func nodeSelector(tj *tuningv1alpha1.TuningJob) map[string]string {
	out := maps.Clone(tj.Spec.Resources.NodeSelector)
	if t := tj.Spec.Resources.InstanceType; t != "" {
		if out == nil {
			out = map[string]string{}
		}
		out[corev1.LabelInstanceTypeStable] = t
	}
	return out
}

// secretMount is a docker config that is mounted as a file.
type secretMount struct{ secret, volume string }

func (s secretMount) file() string { return secretsDir + "/" + s.volume + "/config.json" }

// pullSecrets returns the pull secrets of the input and of the model's image, each once, in order.
func pullSecrets(tj *tuningv1alpha1.TuningJob) []secretMount {
	names := slices.Clone(tj.Spec.Input.ImagePullSecrets)
	if tj.Spec.Model.Source != nil {
		names = append(names, tj.Spec.Model.Source.ImagePullSecrets...)
	}
	var out []secretMount
	seen := map[string]bool{}
	for _, n := range names {
		if n != "" && !seen[n] {
			seen[n] = true
			out = append(out, secretMount{secret: n, volume: "pull-" + strconv.Itoa(len(out))})
		}
	}
	return out
}

func pushSecret(tj *tuningv1alpha1.TuningJob) []secretMount {
	if tj.Spec.Output.Image == "" || tj.Spec.Output.ImagePushSecret == "" {
		return nil
	}
	return []secretMount{{secret: tj.Spec.Output.ImagePushSecret, volume: "push"}}
}

func volumes(in Input, named Volumes) []corev1.Volume {
	tj := in.TuningJob
	out := []corev1.Volume{
		empty(volumeWork),
		empty(volumeTemp),
		{Name: volumeCheckpoint, VolumeSource: checkpointSource(in, named)},
	}
	if parallel(tj) {
		// NCCL and data loaders pass tensors through shared memory. The default /dev/shm of a container has 64 MiB.
		out = append(out, corev1.Volume{Name: volumeShared, VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{
				Medium:    corev1.StorageMediumMemory,
				SizeLimit: ptr.To(resource.MustParse("8Gi")),
			},
		}})
	}
	if named.Model != nil {
		out = append(out, corev1.Volume{Name: volumeModel, VolumeSource: *named.Model})
	}
	if named.Data != nil {
		out = append(out, corev1.Volume{Name: volumeData, VolumeSource: *named.Data})
	}
	if named.Output != nil {
		out = append(out, corev1.Volume{Name: volumeOutput, VolumeSource: *named.Output})
	}
	for _, s := range append(pullSecrets(tj), pushSecret(tj)...) {
		out = append(out, s.source())
	}
	return out
}

func empty(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

func (s secretMount) source() corev1.Volume {
	return corev1.Volume{Name: s.volume, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: s.secret,
		Items:      []corev1.KeyToPath{{Key: corev1.DockerConfigJsonKey, Path: "config.json"}},
		// Optional, so that requireSecret reports a missing Secret in the pod's status. A failed mount would only be
		// reported in an event.
		Optional: ptr.To(true),
	}}}
}

func checkpointSource(in Input, named Volumes) corev1.VolumeSource {
	tj := in.TuningJob
	switch {
	case named.Checkpoint != nil:
		return *named.Checkpoint
	case in.Claim.Make && OwnClaim(tj):
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: ClaimName(tj)}}
	}
	return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
}

// parallel returns whether more than one process trains.
func parallel(tj *tuningv1alpha1.TuningJob) bool { return gpus(tj) > 1 || nodes(tj) > 1 }

func mount(name, path string, readOnly bool) corev1.VolumeMount {
	return corev1.VolumeMount{Name: name, MountPath: path, ReadOnly: readOnly}
}

func container(name, image string) corev1.Container {
	return corev1.Container{
		Name: name, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
		TerminationMessagePath: terminationLog,
		// The kubelet uses the end of the log if a step writes no message.
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext:          podspec.ContainerSecurity(),
		VolumeMounts:             []corev1.VolumeMount{mount(volumeWork, workDir, false), mount(volumeTemp, "/tmp", false)},
	}
}

func small(cpu, memory, limit string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse(cpu),
			corev1.ResourceMemory: resource.MustParse(memory),
		},
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(limit)},
	}
}
