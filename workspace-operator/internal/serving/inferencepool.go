// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/patch"
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

// A Workspace that asks for an InferencePool has one, where the cluster serves that kind.
// +kubebuilder:rbac:groups=inference.networking.k8s.io,resources=inferencepools,verbs=list;watch;create;patch;delete

// AnnotationInferencePool on a Workspace asks for an InferencePool. Its value is NAME:PORT of the Service of the
// endpoint picker in the same namespace.
const AnnotationInferencePool = "kaito.sh/inference-pool"

// PickerOf reads the annotation; nil where the Workspace has none. The error is a *SpecError.
func PickerOf(w *kaitov1alpha1.Workspace) (*EndpointPicker, error) {
	text := w.Annotations[AnnotationInferencePool]
	if text == "" {
		return nil, nil
	}
	name, port, _ := strings.Cut(text, ":")
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil || len(validation.IsDNS1035Label(name)) > 0 || len(validation.IsValidPortNum(int(number))) > 0 {
		return nil, &SpecError{
			fmt.Sprintf(
				"metadata.annotations[%s] is %q: want NAME:PORT of the endpoint picker's Service in this namespace, for instance picker:9002; correct it, or remove the annotation",
				AnnotationInferencePool, text,
			),
		}
	}
	return &EndpointPicker{Name: name, Port: int32(number)}, nil
}

// PoolMetadata returns an empty InferencePool, of which only the metadata is read.
func PoolMetadata() *metav1.PartialObjectMetadata {
	pool := &metav1.PartialObjectMetadata{}
	pool.SetGroupVersionKind(PoolKind)
	return pool
}

// ApplyPool applies the inferencePool of an input, or deletes one that the Workspace no longer asks for. The cluster
// must serve the kind.
func (c Children) ApplyPool(ctx context.Context, in Input) error {
	w := in.Workspace
	current, err := Get(ctx, c.Client, client.ObjectKeyFromObject(w), PoolMetadata())
	if err != nil {
		return err
	}
	switch {
	case in.Picker == nil && current != nil && metav1.IsControlledBy(current, w):
		return client.IgnoreNotFound(c.Client.Delete(ctx, current))
	case in.Picker == nil:
		return nil
	case current != nil:
		if err := patch.CheckOwner(c.Client, w, current); err != nil {
			return err
		}
	}
	_, err = patch.Apply(ctx, c.Client, kaitov1alpha1.FieldManager, Pool(in), object(current))
	return err
}
