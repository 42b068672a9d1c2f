// SPDX-License-Identifier: Apache-2.0

package serving

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// Deployment serves from one node.
func Deployment(in Input) *appsv1.Deployment {
	meta := in.meta(in.Workspace.Name)
	meta.Annotations = map[string]string{AnnotationInputs: in.Hash}
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "Deployment"},
		ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{
			// Of a template each replica is a server of its own; of a preset one server takes all the nodes.
			Replicas: ptr.To(in.Placement.Nodes),
			Selector: &metav1.LabelSelector{MatchLabels: in.Selector()},
			// There is no spare GPU for a second pod beside the first.
			Strategy:             appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			RevisionHistoryLimit: ptr.To[int32](2),
			// The engine's own start-up budget is the bound; the default of ten minutes would call a large model failed while it
			// loads.
			ProgressDeadlineSeconds: ptr.To(startupFailures(in.Engine.WeightsBytes) * 10),
			Template:                podTemplate(in),
		},
	}
}

// Service is what clients call; the second port is torch's rendezvous. An address outside the cluster has the gateway's
// port alone, since a rendezvous asks for no password. The ranks of a server meet at the Service of their peers.
func Service(in Input) *corev1.Service {
	kind := corev1.ServiceTypeClusterIP
	ports := []corev1.ServicePort{
		{
			Name:       "http",
			Protocol:   corev1.ProtocolTCP,
			Port:       kaitov1alpha1.PortHTTP,
			TargetPort: intstr.FromInt32(kaitov1alpha1.PortGateway),
		},
	}
	if in.Public {
		kind = corev1.ServiceTypeLoadBalancer
	} else {
		ports = append(
			ports,
			corev1.ServicePort{
				Name:       "rendezvous",
				Protocol:   corev1.ProtocolTCP,
				Port:       kaitov1alpha1.PortRendezvous,
				TargetPort: intstr.FromInt32(kaitov1alpha1.PortRendezvous),
			},
		)
	}
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: in.meta(in.Workspace.Name),
		Spec:       corev1.ServiceSpec{Type: kind, Selector: in.clientSelector(), Ports: ports},
	}
}

// Endpoint is the Service's address inside the cluster.
func Endpoint(w *kaitov1alpha1.Workspace) string {
	return "http://" + w.Name + "." + w.Namespace + ".svc"
}
