// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/patch"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
)

// A Workspace that asks for one has an InferencePool, where the cluster serves that kind.
// +kubebuilder:rbac:groups=inference.networking.k8s.io,resources=inferencepools,verbs=list;watch;create;patch;delete

// AnnotationInferencePool on a Workspace asks for an InferencePool, and names the Service, NAME:PORT in the same
// namespace, of its endpoint picker.
const AnnotationInferencePool = "kaito.sh/inference-pool"

// picker reads the annotation; nil: there is none.
func picker(w *kaitov1alpha1.Workspace) (*serving.EndpointPicker, error) {
	text := w.Annotations[AnnotationInferencePool]
	if text == "" {
		return nil, nil
	}
	name, port, _ := strings.Cut(text, ":")
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil || len(validation.IsDNS1035Label(name)) > 0 || len(validation.IsValidPortNum(int(number))) > 0 {
		return nil, &specError{
			fmt.Sprintf(
				"metadata.annotations[%s] is %q: want NAME:PORT of the endpoint picker's Service in this namespace, for instance picker:9002; correct it, or remove the annotation",
				AnnotationInferencePool, text,
			),
		}
	}
	return &serving.EndpointPicker{Name: name, Port: int32(number)}, nil
}

// poolMetadata is all that is read of a pool.
func poolMetadata() *metav1.PartialObjectMetadata {
	pool := &metav1.PartialObjectMetadata{}
	pool.SetGroupVersionKind(serving.PoolKind)
	return pool
}

// applyPool makes the pool that is asked for, and takes away one that no longer is. Nothing is done where the kind is
// not served: when it comes, every Workspace is looked at again.
func (r *Reconciler) applyPool(ctx context.Context, s *scope) error {
	w := s.workspace
	asked, err := picker(w)
	if err != nil {
		return err
	}
	served, err := r.foreign.Served(ctx, poolMetadata())
	if err != nil || !served {
		return err
	}
	current := poolMetadata()
	err = r.client.Get(ctx, client.ObjectKeyFromObject(w), current)
	switch {
	case apierrors.IsNotFound(err):
		current = nil
	case err != nil:
		return fmt.Errorf("reading the InferencePool: %w", err)
	}
	ours := current != nil && metav1.IsControlledBy(current, w)
	switch {
	case asked == nil && ours:
		return client.IgnoreNotFound(r.client.Delete(ctx, current))
	case asked == nil:
		return nil
	case current != nil && !ours:
		return &patch.TakenError{Kind: serving.PoolKind.Kind, Key: client.ObjectKeyFromObject(w), Cause: errNotOurs}
	}
	in := serving.Input{Workspace: w, Labels: placement.OwnerLabels(w), Owner: ownerOf(w), Picker: asked}
	if in.Template, err = templateOf(w); err != nil {
		return err
	}
	if w.Status.Plan != nil {
		in.Placement.Nodes = w.Status.Plan.Nodes
	}
	_, err = patch.Apply(ctx, r.client, kaitov1alpha1.FieldManager, serving.Pool(in), object(current))
	return err
}
