// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// PoolKind is the Gateway API Inference Extension's
// (https://gateway-api-inference-extension.sigs.k8s.io/api-types/inferencepool/).
var PoolKind = schema.GroupVersionKind{Group: "inference.networking.k8s.io", Version: "v1", Kind: "InferencePool"}

// PoolResource is its plural name.
const PoolResource = "inferencepools"

// EndpointPicker is the Service that an InferencePool asks for the pod to use.
type EndpointPicker struct {
	Name string
	Port int32
}

// Pool is the InferencePool of the pods that answer: a Gateway's routes name it in the place of the Service.
func Pool(in Input) *unstructured.Unstructured {
	selector := map[string]any{}
	for key, value := range in.clientSelector() {
		selector[key] = value
	}
	pool := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"selector":          map[string]any{"matchLabels": selector},
		"targetPorts":       []any{map[string]any{"number": int64(kaitov1alpha1.PortGateway)}},
		"endpointPickerRef": map[string]any{"name": in.Picker.Name, "port": map[string]any{"number": int64(in.Picker.Port)}},
	}}}
	meta := in.meta(in.Workspace.Name)
	pool.SetGroupVersionKind(PoolKind)
	pool.SetName(meta.Name)
	pool.SetNamespace(meta.Namespace)
	pool.SetLabels(maps.Clone(meta.Labels))
	pool.SetAnnotations(meta.Annotations)
	pool.SetOwnerReferences(meta.OwnerReferences)
	return pool
}
