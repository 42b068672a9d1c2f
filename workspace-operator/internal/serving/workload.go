// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// Labels and annotations of the workload.
const (
	// LabelComponent tells serving pods from those of a tuning job.
	LabelComponent = "app.kubernetes.io/component"
	// ComponentInference is LabelComponent's value.
	ComponentInference = "inference"
	// LabelManagedBy is Kubernetes' recommended label.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// AnnotationInputs is the hash of what the user and the plan decided. The workload is rendered anew when it differs,
	// and only then: another build of the operator rolls nothing.
	AnnotationInputs = "kaito.sh/inputs"
)

// Names of containers.
const (
	ContainerEngine  = "engine"
	ContainerGateway = "gateway"
)

// Input is everything a workload depends on.
type Input struct {
	Workspace *kaitov1alpha1.Workspace
	// Owner labels of everything made; OwnerReference makes it go with the Workspace.
	Labels map[string]string
	Owner  metav1.OwnerReference

	// Hash is of what the user and the plan decided.
	Hash string

	Placement Placement
	Engine    Engine
	Adapters  []Adapter
	// Tuned is the name of the adapter that is the Workspace's own model; empty: the base model is.
	Tuned string
	// Template replaces engine and gateway by the user's own pods.
	Template *corev1.PodTemplateSpec

	Images Images
	// Releasing says that a node of the server is being given back.
	Releasing bool
	// Authorities is a ConfigMap with certificate authorities for what is fetched; empty: the public ones alone.
	Authorities string
	// ModelHub is what engines take for HuggingFace; empty: HuggingFace.
	ModelHub string
	// ImageVolumes: the nodes can mount images, so nothing is fetched by a container.
	ImageVolumes bool
	// APIKeySecret is the name of the Secret whose key "keys" opens the gateway; empty: no key is asked for.
	APIKeySecret string
	// Picker is the endpoint picker of an InferencePool; nil: no pool is asked for.
	Picker *EndpointPicker
	// Public gives the Service an address outside the cluster.
	Public bool
}

// Images are our own.
type Images struct {
	// Gateway is the HTTP server in front of the engine; Runner fetches adapters and weights.
	Gateway, Runner string
}

// Placement says where pods go.
type Placement struct {
	// Nodes is how many pods make one server.
	Nodes int32
	// Selector is labels that the nodes have.
	Selector map[string]string
	// Names are the nodes' names, where labels can't tell them apart; empty: any with Selector.
	Names []string
}

// Adapter is a LoRA adapter.
type Adapter struct {
	Name string
	// Image by digest or tag, with the Secrets that open it; or a volume.
	Image       string
	PullSecrets []string
	Volume      *corev1.VolumeSource
	// ChatTemplate: it has the chat template that it was trained with.
	ChatTemplate bool
}

// Selector of the serving pods; it never changes.
func (in Input) Selector() map[string]string {
	return map[string]string{
		kaitov1alpha1.LabelWorkspaceName: in.Labels[kaitov1alpha1.LabelWorkspaceName],
		LabelComponent:                   ComponentInference,
	}
}

// ServedName is what /chat asks for.
func (in Input) ServedName() string {
	if in.Tuned != "" {
		return in.Tuned
	}
	return in.Workspace.Name
}

func (in Input) objectLabels() map[string]string {
	out := map[string]string{LabelComponent: ComponentInference, LabelManagedBy: kaitov1alpha1.FieldManager}
	for k, v := range in.Labels {
		out[k] = v
	}
	return out
}

func (in Input) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: in.Workspace.Namespace, Labels: in.objectLabels(),
		OwnerReferences: []metav1.OwnerReference{in.Owner},
	}
}

// affinity keeps pods on the named nodes, besides what the user's template demands. A node's hostname label is what
// several names can be given by: matchFields takes only one.
func (p Placement) affinity(given *corev1.Affinity) *corev1.Affinity {
	if len(p.Names) == 0 {
		return given
	}
	out := given.DeepCopy()
	if out == nil {
		out = &corev1.Affinity{}
	}
	if out.NodeAffinity == nil {
		out.NodeAffinity = &corev1.NodeAffinity{}
	}
	required := out.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil || len(required.NodeSelectorTerms) == 0 {
		required = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{}}}
	}
	// Terms are alternatives: each must hold the condition.
	for i := range required.NodeSelectorTerms {
		term := &required.NodeSelectorTerms[i]
		term.MatchExpressions = append(term.MatchExpressions, corev1.NodeSelectorRequirement{
			Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: slices.Sorted(slices.Values(p.Names)),
		})
	}
	out.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = required
	return out
}
