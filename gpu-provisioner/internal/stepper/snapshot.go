package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	nodeclassv1alpha1 "kaito.sh/shared/api/nodeclass/v1alpha1"
)

// snapshot reads what was there at the last sync, as a manager's cache does, and writes through. Kinds that it does not keep (pods,
// volumes) have no objects.
type snapshot struct {
	client.Client
	objects map[reflect.Type][]client.Object
	// written says that something was written since the last sync.
	written bool
}

// sync looks at everything.
func (s *snapshot) sync(ctx context.Context) error {
	objects := map[reflect.Type][]client.Object{}
	for _, list := range []client.ObjectList{
		&karpenterv1alpha5.MachineList{}, &karpv1.NodeClaimList{}, &corev1.NodeList{}, &nodeclassv1alpha1.KaitoNodeClassList{},
	} {
		if err := s.Client.List(ctx, list); err != nil {
			return fmt.Errorf("listing %T: %w", list, err)
		}
		err := meta.EachListItem(list, func(o runtime.Object) error {
			kept := o.(client.Object) // every kind above is one
			objects[reflect.TypeOf(o)] = append(objects[reflect.TypeOf(o)], kept)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, kept := range objects {
		slices.SortFunc(kept, func(a, b client.Object) int { return strings.Compare(a.GetName(), b.GetName()) })
	}
	s.objects, s.written = objects, false
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

// List answers from the last sync, by labels and by the fields that controller.Index indexes.
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
				return false, fmt.Errorf("Nodes are not indexed by %s", r.Field)
			}
			value = o.Spec.ProviderID
		case *karpv1.NodeClaim:
			if r.Field != "status.providerID" {
				return false, fmt.Errorf("NodeClaims are not indexed by %s", r.Field)
			}
			value = o.Status.ProviderID
		default:
			return false, errors.New("no fields are indexed of this kind")
		}
		if value != r.Value {
			return false, nil
		}
	}
	return true, nil
}

// Create, Update, Patch and Delete write through.
func (s *snapshot) Create(ctx context.Context, o client.Object, opts ...client.CreateOption) error {
	s.written = true
	return s.Client.Create(ctx, o, opts...)
}

// Update writes through.
func (s *snapshot) Update(ctx context.Context, o client.Object, opts ...client.UpdateOption) error {
	s.written = true
	return s.Client.Update(ctx, o, opts...)
}

// Patch writes through.
func (s *snapshot) Patch(ctx context.Context, o client.Object, p client.Patch, opts ...client.PatchOption) error {
	s.written = true
	return s.Client.Patch(ctx, o, p, opts...)
}

// Delete writes through.
func (s *snapshot) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	s.written = true
	return s.Client.Delete(ctx, o, opts...)
}

// Status writes through.
func (s *snapshot) Status() client.SubResourceWriter {
	s.written = true
	return s.Client.Status()
}

// each calls fn with every object of the list, and joins what fails.
func each[T client.Object](ctx context.Context, c client.Reader, list client.ObjectList, fn func(T) error) error {
	if err := c.List(ctx, list); err != nil {
		return err
	}
	var errs []error
	err := meta.EachListItem(list, func(o runtime.Object) error {
		errs = append(errs, fn(o.(T)))
		return nil
	})
	return errors.Join(append(errs, err)...)
}
