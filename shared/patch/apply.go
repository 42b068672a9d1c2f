// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// AnnotationIntent holds the hash of the object that was applied last. Applying an unchanged object costs no request.
const AnnotationIntent = "kaito.sh/intent"

// Apply writes obj by server-side apply with the field manager manager. It sends no request when current carries the
// hash of the same obj. current is the object in the cache, or nil if there is none. obj needs a name, a namespace and,
// if it is owned, its owner references; Apply does not change it. It returns whether it wrote.
//
// When current is set, Apply takes over fields that conflict with other field managers: this operator alone decides the
// fields that it sets. When current is nil, a conflict means that the existing object has another owner: the error is a
// *TakenError.
func Apply(ctx context.Context, c client.Client, manager string, obj, current client.Object) (bool, error) {
	intent, err := intended(c.Scheme(), obj)
	if err != nil {
		return false, err
	}
	options := []client.ApplyOption{client.FieldOwner(manager)}
	if current != nil {
		if current.GetAnnotations()[AnnotationIntent] == intent.GetAnnotations()[AnnotationIntent] {
			return false, nil
		}
		options = append(options, client.ForceOwnership)
	}
	kind := intent.GetKind()
	err = c.Apply(ctx, client.ApplyConfigurationFromUnstructured(intent), options...)
	switch {
	case err == nil:
		return true, nil
	case current == nil && apierrors.IsConflict(err):
		return false, &TakenError{Kind: kind, Key: client.ObjectKeyFromObject(obj), Cause: err}
	}
	return false, fmt.Errorf("applying %s %s: %w", kind, client.ObjectKeyFromObject(obj), err)
}

// intended returns the object that Apply sends: obj without its status and the fields that the server sets, and with
// the hash of its JSON as an annotation. The same obj gives the same bytes.
func intended(scheme *runtime.Scheme, obj client.Object) (*unstructured.Unstructured, error) {
	gvk, err := apiutil.GVKForObject(obj, scheme)
	if err != nil {
		return nil, fmt.Errorf("finding the kind of %T: %w", obj, err)
	}
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, fmt.Errorf("rendering %s %s: %w", gvk.Kind, client.ObjectKeyFromObject(obj), err)
	}
	u := &unstructured.Unstructured{Object: raw}
	u.SetGroupVersionKind(gvk)
	delete(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(u.Object, "metadata", "resourceVersion")
	unstructured.RemoveNestedField(u.Object, "metadata", "managedFields")
	unstructured.RemoveNestedField(u.Object, "metadata", "uid")
	unstructured.RemoveNestedField(u.Object, "metadata", "generation")
	unstructured.RemoveNestedField(u.Object, "metadata", "annotations", AnnotationIntent)
	dropNullTimestamps(u.Object)
	text, err := json.Marshal(u.Object)
	if err != nil {
		return nil, fmt.Errorf("hashing %s %s: %w", gvk.Kind, client.ObjectKeyFromObject(obj), err)
	}
	sum := sha256.Sum256(text)
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[AnnotationIntent] = hex.EncodeToString(sum[:16])
	u.SetAnnotations(annotations)
	return u, nil
}

// dropNullTimestamps removes the nulls that zero times are rendered as: applying a null would claim the field.
func dropNullTimestamps(object map[string]any) {
	for key, value := range object {
		switch typed := value.(type) {
		case nil:
			if key == "creationTimestamp" {
				delete(object, key)
			}
		case map[string]any:
			dropNullTimestamps(typed)
		case []any:
			for _, item := range typed {
				if m, ok := item.(map[string]any); ok {
					dropNullTimestamps(m)
				}
			}
		}
	}
}
