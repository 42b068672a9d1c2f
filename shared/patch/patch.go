// SPDX-License-Identifier: Apache-2.0

// Package patch writes to the API server only what has changed, and says whether it did.
package patch

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Status writes obj's status when it differs from before's. It is a merge patch that carries the status alone and,
// with before's resource version, fails with a conflict when somebody else wrote in between.
func Status(ctx context.Context, c client.Client, before, obj client.Object) (bool, error) {
	from, err := part(before, "status")
	if err != nil {
		return false, err
	}
	to, err := part(obj, "status")
	if err != nil {
		return false, err
	}
	if equality.Semantic.DeepEqual(from, to) {
		return false, nil
	}
	if err := c.Status().
		Patch(ctx, obj, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return false, fmt.Errorf("writing status of %s %s: %w", kind(obj), client.ObjectKeyFromObject(obj), err)
	}
	return true, nil
}

// Finalizer adds or removes one finalizer when that changes anything. Others' finalizers stay: the patch carries
// before's resource version, since a merge patch replaces the whole list.
func Finalizer(ctx context.Context, c client.Client, obj client.Object, finalizer string, want bool) (bool, error) {
	before := obj.DeepCopyObject().(client.Object)
	if !setFinalizer(obj, finalizer, want) {
		return false, nil
	}
	if err := c.Patch(ctx, obj, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return false, fmt.Errorf("writing finalizers of %s %s: %w", kind(obj), client.ObjectKeyFromObject(obj), err)
	}
	return true, nil
}

func setFinalizer(obj client.Object, finalizer string, want bool) bool {
	kept := make([]string, 0, len(obj.GetFinalizers())+1)
	had := false
	for _, f := range obj.GetFinalizers() {
		if f == finalizer {
			had = true
			continue
		}
		kept = append(kept, f)
	}
	if had == want {
		return false
	}
	if want {
		kept = append(kept, finalizer)
	}
	obj.SetFinalizers(kept)
	return true
}

func part(obj client.Object, field string) (any, error) {
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s %s: %w", field, kind(obj), client.ObjectKeyFromObject(obj), err)
	}
	return raw[field], nil
}

func kind(obj client.Object) string {
	if k := obj.GetObjectKind().GroupVersionKind().Kind; k != "" {
		return k
	}
	return fmt.Sprintf("%T", obj)
}

func canonical(v any) ([]byte, error) { return json.Marshal(v) }
