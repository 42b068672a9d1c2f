// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// AnnotationAPIKeys on a Workspace names the Secret whose key "keys" has one API key a line. Without the annotation no
// key is required.
const AnnotationAPIKeys = "kaito.sh/api-keys"

// AnnotationLoadBalancer on a Workspace, "true", asks for an address outside the cluster. It is KAITO's annotation, and
// is refused without API keys.
const AnnotationLoadBalancer = "kaito.sh/enablelb"

// Public returns whether a Workspace asks for an address outside the cluster.
func Public(w *kaitov1alpha1.Workspace) bool {
	return strings.EqualFold(w.Annotations[AnnotationLoadBalancer], "true")
}

// TemplateOf decodes the pod template of a Workspace; nil where it has none. The error is an *embedded.InvalidError.
func TemplateOf(w *kaitov1alpha1.Workspace) (*corev1.PodTemplateSpec, error) {
	if w.Inference == nil {
		return nil, nil
	}
	return w.Inference.Template.Decode("inference.template")
}
