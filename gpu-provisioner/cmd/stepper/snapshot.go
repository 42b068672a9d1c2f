// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
)

// snapshot is a client that reads the state of the last sync and its own later writes, as a manager's cache does. It
// has no objects of other kinds, such as pods and volumes.
type snapshot struct {
	client.Client
	objects map[reflect.Type][]client.Object
	// stale hides writes until the next sync.
	stale bool
}

// sync lists all objects.
func (s *snapshot) sync(ctx context.Context) error {
	objects := map[reflect.Type][]client.Object{}
	for _, list := range []client.ObjectList{
		&karpenterv1alpha5.MachineList{}, &karpv1.NodeClaimList{}, &corev1.NodeList{},
		&nodeclassv1alpha1.KaitoNodeClassList{},
	} {
		if err := s.Client.List(ctx, list); err != nil {
			return fmt.Errorf("listing %T: %w", list, err)
		}
		err := meta.EachListItem(list, func(o runtime.Object) error {
			kept := o.(client.Object) // all kinds above implement it
			objects[reflect.TypeOf(o)] = append(objects[reflect.TypeOf(o)], kept)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, kept := range objects {
		slices.SortFunc(kept, byName)
	}
	s.objects = objects
	return nil
}

// Get answers from the last sync.
func (s *snapshot) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	for _, o := range s.objects[reflect.TypeOf(into)] {
		if client.ObjectKeyFromObject(o) == key {
			reflect.ValueOf(into).Elem().Set(reflect.ValueOf(o.DeepCopyObject()).Elem())
			return nil
		}
	}
	gvk, err := apiutil.GVKForObject(into, s.Scheme())
	if err != nil {
		return err
	}
	return apierrors.NewNotFound(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, key.Name)
}

// List answers from the last sync, by labels and by the fields that the manager indexes.
func (s *snapshot) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	items, err := meta.GetItemsPtr(list)
	if err != nil {
		return err
	}
	o := (&client.ListOptions{}).ApplyOptions(opts)
	slice := reflect.ValueOf(items).Elem()
	slice.SetZero()
	for _, kept := range s.objects[reflect.PointerTo(slice.Type().Elem())] {
		if matches, err := selected(kept, o); err != nil {
			return err
		} else if matches {
			slice.Set(reflect.Append(slice, reflect.ValueOf(kept.DeepCopyObject()).Elem()))
		}
	}
	return nil
}

func selected(o client.Object, opts *client.ListOptions) (bool, error) {
	if opts.LabelSelector != nil && !opts.LabelSelector.Matches(labels.Set(o.GetLabels())) {
		return false, nil
	}
	if opts.FieldSelector == nil {
		return true, nil
	}
	for _, r := range opts.FieldSelector.Requirements() {
		value := ""
		switch o := o.(type) {
		case *corev1.Node:
			if r.Field != "spec.providerID" {
				return false, fmt.Errorf("field %s of nodes is not indexed", r.Field)
			}
			value = o.Spec.ProviderID
		case *karpv1.NodeClaim:
			if r.Field != "status.providerID" {
				return false, fmt.Errorf("field %s of claims is not indexed", r.Field)
			}
			value = o.Status.ProviderID
		default:
			return false, fmt.Errorf("fields of %T are not indexed", o)
		}
		if value != r.Value {
			return false, nil
		}
	}
	return true, nil
}

// Create writes through, and keeps the API server's answer. Update, Patch and Delete do the same.
func (s *snapshot) Create(ctx context.Context, o client.Object, opts ...client.CreateOption) error {
	return s.keep(o, s.Client.Create(ctx, o, opts...))
}

// Update writes through.
func (s *snapshot) Update(ctx context.Context, o client.Object, opts ...client.UpdateOption) error {
	return s.keep(o, s.Client.Update(ctx, o, opts...))
}

// Patch writes through.
func (s *snapshot) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	return s.keep(o, s.Client.Patch(ctx, o, p, opts...))
}

// Delete writes through, and reads what is left of the object, because the answer does not contain it.
func (s *snapshot) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	if err := s.Client.Delete(ctx, o, opts...); err != nil {
		return err
	}
	left := o.DeepCopyObject().(client.Object) // a copy has the same type
	err := s.Client.Get(ctx, client.ObjectKeyFromObject(o), left)
	if apierrors.IsNotFound(err) {
		left.SetFinalizers(nil)
		left.SetDeletionTimestamp(&metav1.Time{Time: time.Unix(1, 0)}) // gone
		err = nil
	}
	return s.keep(left, err)
}

// Status returns a client that writes through.
func (s *snapshot) Status() client.SubResourceWriter { return &statusWriter{s.Client.Status(), s} }

type statusWriter struct {
	client.SubResourceWriter
	snapshot *snapshot
}

// Update writes through.
func (w *statusWriter) Update(ctx context.Context, o client.Object, opts ...client.SubResourceUpdateOption) error {
	return w.snapshot.keep(o, w.SubResourceWriter.Update(ctx, o, opts...))
}

// Patch writes through.
func (w *statusWriter) Patch(
	ctx context.Context, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption,
) error {
	return w.snapshot.keep(o, w.SubResourceWriter.Patch(ctx, o, p, opts...))
}

// keep stores the object that a write returned.
func (s *snapshot) keep(o client.Object, err error) error {
	if err != nil || s.stale {
		return err
	}
	kind := reflect.TypeOf(o)
	kept := slices.DeleteFunc(s.objects[kind], func(other client.Object) bool {
		return client.ObjectKeyFromObject(other) == client.ObjectKeyFromObject(o)
	})
	if o.GetDeletionTimestamp().IsZero() || len(o.GetFinalizers()) > 0 {
		kept = append(kept, o.DeepCopyObject().(client.Object)) // a copy has the same type
	}
	slices.SortFunc(kept, byName)
	s.objects[kind] = kept
	return nil
}

func byName(a, b client.Object) int { return strings.Compare(a.GetName(), b.GetName()) }
