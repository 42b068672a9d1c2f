// SPDX-License-Identifier: Apache-2.0

package job

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/training"
)

// Names of the containers.
const (
	Fetch = string(message.StepFetch)
	Train = string(message.StepTrain)
	Push  = string(message.StepPush)
)

// Labels and annotations.
const (
	// LabelTuningJob is on all objects of a TuningJob. Its value is the name of the Job.
	LabelTuningJob = "tuning.kaito.sh/job"
	// AnnotationTuningJob is on the pods of a TuningJob. Its value is the name of the TuningJob, which may be too long for
	// a label.
	AnnotationTuningJob = "tuning.kaito.sh/tuning-job"
	// LabelManaged marks the objects that this operator makes. It watches no others.
	LabelManaged = "app.kubernetes.io/managed-by"
	// AnnotationProgress on a pod holds a progress line (see the README) of a trainer without the HTTP endpoint.
	AnnotationProgress = "tuning.kaito.sh/progress"
	// LabelQueue is Kueue's label. Kueue decides when a Job with this label runs.
	LabelQueue    = "kueue.x-k8s.io/queue-name"
	labelPriority = "kueue.x-k8s.io/priority-class"
	labelName     = "app.kubernetes.io/name"
)

const (
	// RendezvousPort is the port of torch's rendezvous, which connects the ranks of several nodes: torch's default.
	RendezvousPort = 29500
	// ProgressPort is the port at which the running step serves GET /progress.
	ProgressPort = 9400

	defaultBackoffLimit    = 3
	defaultCheckpointSteps = 100
	defaultCheckpointKeep  = 2
	// graceSeconds is the time that the trainer has after SIGTERM to finish its step and write a checkpoint.
	graceSeconds = 120
)

// Options are the operator's settings for pods.
type Options struct {
	RunnerImage  string
	TrainerImage string
	// AllowPrivateSources lets inputs be fetched from private addresses.
	AllowPrivateSources bool
	// ModelHub is the URL of a mirror of HuggingFace. Empty: HuggingFace.
	ModelHub string
	// Authorities is the name of a ConfigMap with certificate authorities for sources and registries. Empty: only the
	// public ones are trusted.
	Authorities string
	// CheckpointSize is the size, a quantity, of the volume claim of a TuningJob that names no checkpoint volume.
	CheckpointSize string
}

// Model is the resolved base model.
type Model struct {
	// ID is the model's ID on HuggingFace. Adapters name it as their base model.
	ID       string
	Revision string
}

// Claim says where checkpoints are stored when the TuningJob names no volume.
type Claim struct {
	// Make creates a volume claim for the TuningJob. If it is false, checkpoints are on the pod's own disk.
	Make bool
	// Class is the storage class of the volume claim. Empty: the cluster's default.
	Class string
}

// Input holds everything that the objects depend on.
type Input struct {
	TuningJob *tuningv1alpha1.TuningJob
	Model     Model
	Config    training.Config
	Claim     Claim
	Options   Options
}

// Volumes are the volume sources that a TuningJob names. Unset ones are nil.
type Volumes struct {
	Model, Data, Output, Checkpoint *corev1.VolumeSource
}

// VolumesOf decodes the volume sources of a TuningJob. The error is an *embedded.InvalidError.
func VolumesOf(tj *tuningv1alpha1.TuningJob) (Volumes, error) {
	var v Volumes
	var err error
	if s := tj.Spec.Model.Source; s != nil {
		if v.Model, err = s.VolumeSource.Decode("spec.model.source.volumeSource"); err != nil {
			return v, err
		}
	}
	if v.Data, err = tj.Spec.Input.VolumeSource.Decode("spec.input.volumeSource"); err != nil {
		return v, err
	}
	if v.Output, err = tj.Spec.Output.VolumeSource.Decode("spec.output.volumeSource"); err != nil {
		return v, err
	}
	v.Checkpoint, err = tj.Spec.Checkpoint.VolumeSource.Decode("spec.checkpoint.volumeSource")
	return v, err
}

// Objects are the children of one TuningJob. Service and Claim are nil where they are not needed.
type Objects struct {
	Job     *batchv1.Job
	Policy  *networkingv1.NetworkPolicy
	Service *corev1.Service
	Claim   *corev1.PersistentVolumeClaim
}

// Name returns the name of the Job: the TuningJob's, unless that cannot be part of a host name.
func Name(tj *tuningv1alpha1.TuningJob) string { return childName(tj.Name, "") }

// ServiceName returns the name of the headless Service that ranks find each other by. The Service of a Workspace may
// have the plain name.
func ServiceName(tj *tuningv1alpha1.TuningJob) string { return childName(tj.Name, "-ranks") }

// PolicyName returns the name of the NetworkPolicy. The NetworkPolicy of a Workspace may have the plain name.
func PolicyName(tj *tuningv1alpha1.TuningJob) string { return childName(tj.Name, "-tuning") }

// ClaimName returns the name of the volume claim for checkpoints.
func ClaimName(tj *tuningv1alpha1.TuningJob) string { return childName(tj.Name, "-checkpoints") }

// maxName leaves room for an index within the 63 characters of a host name.
const maxName = 58

func childName(name, suffix string) string {
	plain := strings.ReplaceAll(name, ".", "-")
	if plain == name && len(name)+len(suffix) <= maxName {
		return name + suffix
	}
	sum := sha256.Sum256([]byte(name))
	hash := "-" + hex.EncodeToString(sum[:4])
	return strings.TrimRight(plain[:min(len(plain), maxName-len(suffix)-len(hash))], "-") + hash + suffix
}

func labels(tj *tuningv1alpha1.TuningJob) map[string]string {
	return map[string]string{LabelTuningJob: Name(tj), labelName: "tuning-job", LabelManaged: tuningv1alpha1.FieldManager}
}

func nodes(tj *tuningv1alpha1.TuningJob) int32 { return ptr.Deref(tj.Spec.Resources.Nodes, 1) }

func gpus(tj *tuningv1alpha1.TuningJob) int32 { return ptr.Deref(tj.Spec.Resources.GPUsPerNode, 1) }

// Queued returns whether Kueue decides when the Job runs.
func Queued(tj *tuningv1alpha1.TuningJob) bool { return tj.Labels[LabelQueue] != "" }

// OwnClaim returns whether checkpoints may be stored in a volume claim of the TuningJob: it has one pod and names no
// volume. Several pods would need a volume that all of them can write, which default storage classes rarely provide.
func OwnClaim(tj *tuningv1alpha1.TuningJob) bool {
	return tj.Spec.Checkpoint.VolumeSource == nil && nodes(tj) == 1
}

// Build renders the objects. The caller sets the owner references. The error is an *embedded.InvalidError, or names an
// invalid setting of the operator.
func Build(in Input) (Objects, error) {
	tj := in.TuningJob
	config, err := in.Config.JSON()
	if err != nil {
		return Objects{}, err
	}
	named, err := VolumesOf(tj)
	if err != nil {
		return Objects{}, err
	}
	out := Objects{Job: &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: Name(tj), Namespace: tj.Namespace, Labels: labels(tj)},
		Spec: batchv1.JobSpec{
			Parallelism: ptr.To(nodes(tj)),
			Completions: ptr.To(nodes(tj)),
			// All ranks fail when one does, so a retry of the group counts as many failures as there are ranks.
			BackoffLimit:          ptr.To(ptr.Deref(tj.Spec.BackoffLimit, defaultBackoffLimit) * nodes(tj)),
			ActiveDeadlineSeconds: tj.Spec.ActiveDeadlineSeconds,
			CompletionMode:        ptr.To(batchv1.IndexedCompletion),
			// Kueue admits only Jobs that are created suspended.
			Suspend:              ptr.To(Queued(tj)),
			PodReplacementPolicy: ptr.To(batchv1.Failed),
			PodFailurePolicy:     failurePolicy(),
			Template:             template(in, config, named),
		},
	}}
	out.Policy = policy(tj)
	for _, key := range []string{LabelQueue, labelPriority} {
		if v := tj.Labels[key]; v != "" {
			out.Job.Labels[key] = v
		}
	}
	if nodes(tj) > 1 {
		out.Service = service(tj)
	}
	if in.Claim.Make && OwnClaim(tj) {
		out.Claim, err = claim(in)
	}
	return out, err
}

// failurePolicy ignores disruptions, ends the Job after a failure that would repeat, and counts all other failures
// towards the backoff limit.
func failurePolicy() *batchv1.PodFailurePolicy {
	exit := func(action batchv1.PodFailurePolicyAction, code int32) batchv1.PodFailurePolicyRule {
		return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{code},
		}}
	}
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
			{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue},
		}},
		exit(batchv1.PodFailurePolicyActionIgnore, message.ExitPreempted),
		exit(batchv1.PodFailurePolicyActionFailJob, message.ExitPermanent),
	}}
}

func service(tj *tuningv1alpha1.TuningJob) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Name: ServiceName(tj), Namespace: tj.Namespace, Labels: labels(tj)},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone,
			Selector:  map[string]string{LabelTuningJob: Name(tj)},
			// The trainer is an init container: its pod is not ready while it connects to its peers.
			PublishNotReadyAddresses: true,
			Ports: []corev1.ServicePort{
				{Name: "rendezvous", Port: RendezvousPort, TargetPort: intstr.FromInt32(RendezvousPort)},
			},
		},
	}
}

// policy allows all clients to reach the progress port, and the ranks to reach each other on all ports: torch's
// rendezvous and its backends choose their ports and authenticate no client.
func policy(tj *tuningv1alpha1.TuningJob) *networkingv1.NetworkPolicy {
	ours := metav1.LabelSelector{MatchLabels: map[string]string{LabelTuningJob: Name(tj)}}
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: PolicyName(tj), Namespace: tj.Namespace, Labels: labels(tj)},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: ours,
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{
					Ports: []networkingv1.NetworkPolicyPort{
						{Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(intstr.FromInt32(ProgressPort))},
					},
				},
				{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &ours}}},
			},
		},
	}
}

func claim(in Input) (*corev1.PersistentVolumeClaim, error) {
	size, err := quantity(in.Options.CheckpointSize)
	if err != nil {
		return nil, err
	}
	pvc := &corev1.PersistentVolumeClaim{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{
			Name:      ClaimName(in.TuningJob),
			Namespace: in.TuningJob.Namespace,
			Labels:    labels(in.TuningJob),
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: size}},
		},
	}
	if in.Claim.Class != "" {
		pvc.Spec.StorageClassName = ptr.To(in.Claim.Class)
	}
	return pvc, nil
}
