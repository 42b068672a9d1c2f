// SPDX-License-Identifier: Apache-2.0

package patch

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// Status writes the status of obj when it differs from that of before, and returns whether it wrote. The request is a
// merge patch of the status with the resource version of before: it fails with a conflict when the object was changed
// since before was read. flow.RequeueConflict says how a reconciler treats the conflict.
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

// Finalizer adds a finalizer when want is true and removes it otherwise. It returns whether it wrote. The patch carries
// the resource version of obj, because a merge patch replaces the whole list.
func Finalizer(ctx context.Context, c client.Client, obj client.Object, finalizer string, want bool) (bool, error) {
	before := obj.DeepCopyObject().(client.Object)
	change := controllerutil.RemoveFinalizer
	if want {
		change = controllerutil.AddFinalizer
	}
	if !change(obj, finalizer) {
		return false, nil
	}
	if err := c.Patch(ctx, obj, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return false, fmt.Errorf("writing finalizers of %s %s: %w", kind(obj), client.ObjectKeyFromObject(obj), err)
	}
	return true, nil
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
