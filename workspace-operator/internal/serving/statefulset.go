// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/engine"
)

// envRank is the pod's index, which is its rank.
const envRank = "NODE_RANK"

// Several says whether one server takes more than one node.
func (in Input) Several() bool { return in.Template == nil && in.Placement.Nodes > 1 }

// maxSetName is how long a StatefulSet's name may be. Its pods carry the label controller-revision-hash, whose value is
// the name, a dash and a hash of at most 10 characters (k8s.io/kubernetes/pkg/controller/history,
// ControllerRevisionName); a label's value has at most 63.
const maxSetName = validation.LabelValueMaxLength - 1 - 10

// SetName is the name of the StatefulSet that serves from several nodes: the Workspace's own, or, where that is too
// long for the labels of pods, its beginning and a hash of all of it.
func SetName(w *kaitov1alpha1.Workspace) string {
	if len(w.Name) <= maxSetName {
		return w.Name
	}
	sum := sha256.Sum256([]byte(w.Name))
	hash := "-" + hex.EncodeToString(sum[:4])
	return strings.TrimRight(w.Name[:maxSetName-len(hash)], "-") + hash
}

// PeersName is the name of the headless Service by which the pods of one server find each other.
func PeersName(in Input) string { return SetName(in.Workspace) + "-peers" }

// StatefulSet serves from several nodes: one pod a node, all started at once, since they meet before any of them is
// ready.
func StatefulSet(in Input) *appsv1.StatefulSet {
	meta := in.meta(SetName(in.Workspace))
	meta.Annotations = map[string]string{AnnotationInputs: in.Hash}
	template := podTemplate(in)
	ranked(in, &template.Spec)
	return &appsv1.StatefulSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "StatefulSet"},
		ObjectMeta: meta,
		Spec: appsv1.StatefulSetSpec{
			Replicas:            ptr.To(in.Placement.Nodes),
			ServiceName:         PeersName(in),
			PodManagementPolicy: appsv1.ParallelPodManagement,
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{
				Type:          appsv1.RollingUpdateStatefulSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{MaxUnavailable: ptr.To(intstr.FromString("100%"))},
			},
			RevisionHistoryLimit: ptr.To[int32](2),
			Selector:             &metav1.LabelSelector{MatchLabels: in.Selector()},
			Template:             template,
		},
	}
}

// ranked turns the pod of one node into one of several, which knows its rank.
func ranked(in Input, spec *corev1.PodSpec) {
	c := &spec.Containers[0]
	group := engine.Ranks{
		Nodes:    int(in.Placement.Nodes),
		Leader:   fmt.Sprintf("%s-0.%s.%s.svc", SetName(in.Workspace), PeersName(in), in.Workspace.Namespace),
		Port:     kaitov1alpha1.PortRendezvous,
		Variable: envRank,
	}
	command := in.Engine.Software.Ranked(engine.Command{Command: c.Command, Args: c.Args}, group)
	c.Command, c.Args = supervised(command, group), command.Args
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "ranks", MountPath: ranksDir, ReadOnly: true})
	spec.Volumes = append(spec.Volumes, emptyDir("ranks"))
	spec.InitContainers = append(spec.InitContainers, supervisor(in))
	c.Env = append(c.Env, corev1.EnvVar{Name: envRank, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.labels['" + appsv1.PodIndexLabel + "']"},
	}})
	// Only rank 0 answers, so only there could the probe succeed.
	c.StartupProbe = nil
	spec.Affinity = in.Placement.affinity(&corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			LabelSelector: &metav1.LabelSelector{MatchLabels: in.Selector()}, TopologyKey: corev1.LabelHostname,
		}},
	}})
}

// Peers is the headless Service of several nodes: they meet before they are ready.
func Peers(in Input) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: in.meta(PeersName(in)),
		Spec: corev1.ServiceSpec{
			ClusterIP:                corev1.ClusterIPNone,
			PublishNotReadyAddresses: true,
			Selector:                 in.Selector(),
			Ports: []corev1.ServicePort{
				{
					Name:       "rendezvous",
					Protocol:   corev1.ProtocolTCP,
					Port:       kaitov1alpha1.PortRendezvous,
					TargetPort: intstr.FromInt32(kaitov1alpha1.PortRendezvous),
				},
			},
		},
	}
}

// DisruptionBudget keeps a server of several nodes from being evicted pod by pod: with one pod less none answers. Pods
// that are not ready may always go, so that a broken server blocks no node's drain; and any may while a node of theirs
// is given back, for that one is drained and nothing else would end its pod.
func DisruptionBudget(in Input) *policyv1.PodDisruptionBudget {
	unavailable := intstr.FromInt32(0)
	if in.Releasing {
		unavailable = intstr.FromString("100%")
	}
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: policyv1.SchemeGroupVersion.String(), Kind: "PodDisruptionBudget"},
		ObjectMeta: in.meta(in.Workspace.Name),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable:             &unavailable,
			Selector:                   &metav1.LabelSelector{MatchLabels: in.Selector()},
			UnhealthyPodEvictionPolicy: ptr.To(policyv1.AlwaysAllow),
		},
	}
}

// Fenced says whether a NetworkPolicy is made for the pods. The engine itself answers on localhost only, but vLLM opens
// a store of torch's on the pod's address even for a single process, and processes that share a model talk by ports of
// their own choice; none of these asks for a password. What a user's own template listens on is the user's to decide,
// and so is its policy.
func (in Input) Fenced() bool { return in.Template == nil }

// LabelMetrics on a namespace, with ValueMetrics, lets its pods read metrics: the same as of the operators
// (config/components/network-policy).
const (
	LabelMetrics = "metrics"
	ValueMetrics = "enabled"
)

// NetworkPolicy lets the whole cluster reach the gateway, the namespaces of who collects metrics its status port, and
// the peers each other. Probes and hooks come from the node, which a policy does not bind
// (https://kubernetes.io/docs/concepts/services-networking/network-policies/).
func NetworkPolicy(in Input) *networkingv1.NetworkPolicy {
	port := func(number int32) []networkingv1.NetworkPolicyPort {
		return []networkingv1.NetworkPolicyPort{
			{Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(intstr.FromInt32(number))},
		}
	}
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy"},
		ObjectMeta: in.meta(in.Workspace.Name),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: in.Selector()},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{Ports: port(kaitov1alpha1.PortGateway)},
				{
					Ports: port(portOfStatus),
					From: []networkingv1.NetworkPolicyPeer{
						{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{LabelMetrics: ValueMetrics}}},
					},
				},
				{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: in.Selector()}}}},
			},
		},
	}
}

// clientSelector reaches the pods that answer: of several nodes rank 0.
func (in Input) clientSelector() map[string]string {
	out := maps.Clone(in.Selector())
	if in.Several() {
		out[appsv1.PodIndexLabel] = "0"
	}
	return out
}
