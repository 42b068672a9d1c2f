// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// AnnotationIntent holds the hash of what was applied last: an unchanged intent costs no call.
const AnnotationIntent = "kaito.sh/intent"

// TakenError says that an object of the needed name is there and was made by somebody else.
type TakenError struct {
	Kind string
	Key  client.ObjectKey
	// Cause is the API server's answer: it names the fields and who owns them.
	Cause error
}

func (e *TakenError) Error() string {
	return fmt.Sprintf(
		"%s %s is there and belongs to somebody else: delete or rename it, or give the other object another name (%v)",
		e.Kind, e.Key, e.Cause,
	)
}

func (e *TakenError) Unwrap() error { return e.Cause }

// Apply writes obj by server-side apply under owner's name, unless current (what the cache has, nil if nothing) was
// made from the same intent. obj needs name, namespace and, when it is owned, its owner references. It is left as it
// was.
//
// Conflicts with other field managers are forced on what is ours: what the builder sets is this operator's alone. They
// are not forced where current is nil, since then an object of that name is somebody else's: the answer is a
// *TakenError.
func Apply(ctx context.Context, c client.Client, owner string, obj, current client.Object) (bool, error) {
	intent, err := Intent(c.Scheme(), obj)
	if err != nil {
		return false, err
	}
	options := []client.ApplyOption{client.FieldOwner(owner)}
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

// Intent is what Apply sends: obj without status and server-set fields, with the hash of its canonical JSON.
// The same obj gives the same bytes.
func Intent(scheme *runtime.Scheme, obj client.Object) (*unstructured.Unstructured, error) {
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
	text, err := canonical(u.Object)
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

// dropNullTimestamps removes the nulls that Go's zero times become: applying them would claim the field.
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
