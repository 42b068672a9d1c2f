// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/podspec"
	"kaito.sh/shared/trust"
)

// Paths in the pod.
const (
	cacheDir    = "/cache"
	adaptersDir = "/adapters"
	mountsDir   = "/adapter-volumes"
	weightsDir  = "/weights"
	weightsPath = weightsDir + "/data"
	trustedDir  = "/trusted"
	trustedFile = trustedDir + "/authorities.pem"
	keysDir     = "/keys"
	credentials = "/credentials"
	terminLog   = "/dev/termination-log"
)

// drainSeconds is the gateway's --drain-timeout; graceSeconds what the kubelet gives the pod: the drain, and the
// engine's own end.
const (
	drainSeconds = 60
	graceSeconds = drainSeconds + 30
)

// portStatus is the name of the gateway's port for probes and metrics: a PodMonitor finds it by that.
const portStatus = "status"

// portOfStatus is where the gateway serves probes and metrics in the pod. No Service has it.
const portOfStatus = 5001

// loadMiBPerSecond is the slowest download and load of weights that is waited for: a tenth of what AKS nodes do from
// HuggingFace.
const loadMiBPerSecond = 20

// startGrace is what an engine takes besides loading: compiling kernels and capturing graphs.
const startGraceSeconds = 15 * 60

// podTemplate builds the pods of one node's server.
func podTemplate(in Input) corev1.PodTemplateSpec {
	if in.Template != nil {
		return userTemplate(in)
	}
	volumes, inits := sources(in)
	containers := []corev1.Container{engineContainer(in), gatewayContainer(in)}
	// Names, configuration and addresses are given by users: no text of theirs may read the containers' environment.
	for _, list := range [][]corev1.Container{inits, containers} {
		for i := range list {
			podspec.EscapeContainer(&list[i])
		}
	}
	spec := corev1.PodSpec{
		// Nothing in the pod talks to the API server.
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To[int64](graceSeconds),
		NodeSelector:                  maps.Clone(in.Placement.Selector),
		Affinity:                      in.Placement.affinity(nil),
		Tolerations:                   podspec.GPUTolerations(nil),
		SecurityContext: &corev1.PodSecurityContext{
			FSGroup:        ptr.To(podspec.User),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		InitContainers: inits,
		Containers:     containers,
		Volumes:        volumes,
	}
	if in.ImageVolumes {
		// The kubelet pulls image volumes with the pod's own secrets.
		for _, name := range pullSecrets(in) {
			spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
		}
	}
	trust.Add(&spec, in.Authorities, names(inits)...)
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: in.objectLabels(), Annotations: podAnnotations()},
		Spec:       spec,
	}
}

func names(containers []corev1.Container) []string {
	var out []string
	for _, c := range containers {
		out = append(out, c.Name)
	}
	return out
}

// podAnnotations keep the only copy of a server from being moved for the sake of a fuller cluster: loading it again
// takes minutes.
func podAnnotations() map[string]string {
	return map[string]string{
		"cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
	}
}

// userTemplate is the user's pods, put on the Workspace's nodes. What the user says of tolerations and affinity is
// kept.
func userTemplate(in Input) corev1.PodTemplateSpec {
	t := *in.Template.DeepCopy()
	t.Name, t.Namespace = "", ""
	labels := maps.Clone(t.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, in.objectLabels())
	t.Labels = labels
	if t.Annotations == nil {
		t.Annotations = map[string]string{}
	}
	for k, v := range podAnnotations() {
		if _, given := t.Annotations[k]; !given {
			t.Annotations[k] = v
		}
	}
	selector := maps.Clone(t.Spec.NodeSelector)
	if selector == nil {
		selector = map[string]string{}
	}
	maps.Copy(selector, in.Placement.Selector)
	t.Spec.NodeSelector = selector
	t.Spec.Tolerations = podspec.GPUTolerations(t.Spec.Tolerations)
	t.Spec.Affinity = in.Placement.affinity(t.Spec.Affinity)
	return t
}

func engineContainer(in Input) corev1.Container {
	e, command := in.Engine, start(in)
	c := corev1.Container{
		Name: ContainerEngine, Image: e.Image, ImagePullPolicy: corev1.PullIfNotPresent,
		Command:                  command.Command,
		Args:                     command.Args,
		Env:                      environment(in, command.Env),
		TerminationMessagePath:   terminLog,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		Resources:                engineResources(e),
		SecurityContext: &corev1.SecurityContext{
			// The image decides its user; more than that it does not get.
			AllowPrivilegeEscalation: ptr.To(false),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		// The engine listens on localhost only, where no kubelet can ask it; the gateway beside it can and does.
		StartupProbe: &corev1.Probe{
			ProbeHandler:     httpGet("/readyz"),
			PeriodSeconds:    10,
			TimeoutSeconds:   5,
			FailureThreshold: startupFailures(e.WeightsBytes),
		},
		Lifecycle:    &corev1.Lifecycle{PreStop: preStop(in)},
		VolumeMounts: []corev1.VolumeMount{{Name: "cache", MountPath: cacheDir}},
	}
	if e.Parallel {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "shm", MountPath: "/dev/shm"})
	}
	if e.WeightsImage != "" {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "weights", MountPath: weightsDir, ReadOnly: true})
	}
	if gathers(in) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "trusted", MountPath: trustedDir, ReadOnly: true})
	}
	return withAdapterMounts(in, c)
}

// preStop keeps the engine until the gateway has no request any more. The kubelet stops a pod's containers at once, and
// vLLM aborts what runs when it gets SIGTERM (--shutdown-timeout is 0; the flag is of vLLM 0.18,
// https://github.com/vllm-project/vllm/pull/34730, and older engines are served too).
//
// The gateway answers /drained when it has drained. The kubelet waits for a hook's answer as long as the pod's grace
// period lasts: its client for hooks has no timeout of its own (kubernetes/pkg/kubelet/kubelet.go). Of several nodes
// rank 0 alone has requests, and it needs all the others, whose gateways know of none: there all ranks wait for as long
// as a drain may take.
func preStop(in Input) *corev1.LifecycleHandler {
	if in.Several() {
		return &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: drainSeconds}}
	}
	return &corev1.LifecycleHandler{HTTPGet: httpGet("/drained").HTTPGet}
}

func withAdapterMounts(in Input, c corev1.Container) corev1.Container {
	fetched := false
	for i, a := range in.Adapters {
		if a.Volume != nil || in.ImageVolumes {
			c.VolumeMounts = append(
				c.VolumeMounts, corev1.VolumeMount{Name: adapterVolume(i), MountPath: adapterMount(in, a), ReadOnly: true},
			)
			continue
		}
		fetched = true
	}
	if fetched {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "adapters", MountPath: adaptersDir, ReadOnly: true})
	}
	return c
}

// startupFailures is how many failed probes, one every 10 s, are waited for.
func startupFailures(weights int64) int32 {
	seconds := int64(startGraceSeconds) + weights/(loadMiBPerSecond<<20)
	return int32(min((seconds+9)/10, 24*360)) // a day at most
}

// environment returns what the engine asks for, what the model hub's client reads, and what the catalogue says.
func environment(in Input, asked map[string]string) []corev1.EnvVar {
	e := in.Engine
	values := map[string]string{"HF_HOME": cacheDir + "/huggingface"}
	maps.Copy(values, asked)
	if in.ModelHub != "" {
		values["HF_ENDPOINT"] = in.ModelHub
	}
	if gathers(in) {
		// The hub's client looks at the one when it is built on httpx (huggingface_hub 1.0 and later), at the other on
		// requests.
		values["SSL_CERT_FILE"], values["REQUESTS_CA_BUNDLE"] = trustedFile, trustedFile
	}
	maps.Copy(values, e.Env)
	var out []corev1.EnvVar
	for _, name := range slices.Sorted(maps.Keys(values)) {
		out = append(out, corev1.EnvVar{Name: name, Value: values[name]})
	}
	if e.AccessSecret != "" {
		out = append(
			out,
			corev1.EnvVar{Name: "HF_TOKEN", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: e.AccessSecret}, Key: "HF_TOKEN",
			}}},
		)
	}
	return out
}

func engineResources(e Engine) corev1.ResourceRequirements {
	gpus := *resource.NewQuantity(e.GPUs, resource.DecimalSI)
	r := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{kaitov1alpha1.ResourceNvidiaGPU: gpus},
		Limits:   corev1.ResourceList{kaitov1alpha1.ResourceNvidiaGPU: gpus},
	}
	if e.CPUs > 0 {
		r.Requests[corev1.ResourceCPU] = *resource.NewQuantity(e.CPUs, resource.DecimalSI)
	}
	if e.MemoryGiB > 0 {
		r.Requests[corev1.ResourceMemory] = *resource.NewQuantity(e.MemoryGiB<<30, resource.BinarySI)
	}
	return r
}

func adapterVolume(i int) string { return fmt.Sprintf("adapter-%d", i) }
