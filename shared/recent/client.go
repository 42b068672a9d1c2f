// SPDX-License-Identifier: Apache-2.0

package recent

import (
	"context"
	"reflect"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// Client reads from the caches of the client it wraps, and lays over that what was written through it and is newer.
type Client struct {
	client.Client
	memory  *memory
	indexes map[string]client.IndexerFunc
	trim    func(client.Object)
}

// New wraps c. The clock only tells when a write is too old to be laid over anything. The indexes are those of the
// caches, by the name of their field: a list by one of them also has what was written and is not cached yet. An index's
// function is asked about objects of every kind that is written. trim does to what is remembered what the caches do to
// what they keep; nil: nothing.
func New(
	c client.Client, clk clock.PassiveClock, indexes map[string]client.IndexerFunc, trim func(client.Object),
) *Client {
	if trim == nil {
		trim = func(client.Object) {}
	}
	return &Client{Client: c, memory: newMemory(clk), indexes: indexes, trim: trim}
}

// Get reads the newer of the cached and the written object.
func (c *Client) Get(ctx context.Context, name client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	gvk, err := apiutil.GVKForObject(obj, c.Scheme())
	if err != nil {
		return c.Client.Get(ctx, name, obj, opts...) // a kind that is not ours to write
	}
	k := key{gvk: gvk, name: name}
	m := c.memory
	for {
		known := m.has(k)
		err := c.Client.Get(ctx, name, obj, opts...)
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		m.mu.Lock()
		e, ok := m.look(k)
		if ok {
			err = m.lay(k, e, obj, err)
		}
		m.mu.Unlock()
		// A write that was known and is forgotten now has reached the cache, or its object has been deleted, since the cache
		// was read: that reading may be older.
		if ok || !known {
			return err
		}
	}
}

// lay lays a write over what the cache answered.
func (m *memory) lay(k key, e entry, obj client.Object, err error) error {
	if err != nil {
		if e.object == nil || e.deleted != "" {
			m.drop(k) // it was there when it was written: it has gone
			return err
		}
		return overlay(obj, e.object, err)
	}
	if e.gone && e.deleted == obj.GetUID() {
		return apierrors.NewNotFound(schema.GroupResource{Group: k.gvk.Group, Resource: k.gvk.Kind}, k.name.Name)
	}
	if e.object != nil && newer(e.object, obj) {
		if failed := overlay(obj, e.object, nil); failed != nil {
			return failed
		}
	} else if e.deleted == "" || e.deleted != obj.GetUID() || obj.GetDeletionTimestamp() != nil {
		m.drop(k)
		return nil
	}
	mark(obj, e)
	return nil
}

// rereads bounds how often a list is read again since the watch has caught up with a write meanwhile. A list that is
// still older then costs a request that the API server refuses.
const rereads = 4

// List reads the cached objects, each in its newer form, and those that were written and are not cached yet.
func (c *Client) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	gvk, err := apiutil.GVKForObject(list, c.Scheme())
	if err != nil {
		return c.Client.List(ctx, list, opts...) // a list of a kind that is not ours to write
	}
	gvk.Kind = gvk.Kind[:len(gvk.Kind)-len("List")]
	var o client.ListOptions
	o.ApplyOptions(opts)

	for tries := 0; ; tries++ {
		known := c.memory.dropsOf(gvk)
		if err := c.Client.List(ctx, list, opts...); err != nil {
			return err
		}
		if merged, err := c.lay(gvk, list, o, known, tries == rereads); merged {
			return err
		}
	}
}

// lay lays what was written over a list, unless something was forgotten since known and the list may be read again.
func (c *Client) lay(
	gvk schema.GroupVersionKind, list client.ObjectList, o client.ListOptions, known int, last bool,
) (bool, error) {
	m := c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drops[gvk] != known && !last {
		return false, nil
	}
	if len(m.written[gvk]) == 0 {
		return true, nil
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return true, nil // a list that holds no objects has nothing to lay anything over
	}
	return true, meta.SetList(list, c.merge(gvk, items, o))
}

func (c *Client) merge(gvk schema.GroupVersionKind, items []runtime.Object, o client.ListOptions) []runtime.Object {
	m := c.memory
	seen := map[types.NamespacedName]bool{}
	items = slices.DeleteFunc(items, func(item runtime.Object) bool {
		obj, ok := item.(client.Object)
		if !ok {
			return false
		}
		e, ok := m.look(key{gvk: gvk, name: client.ObjectKeyFromObject(obj)})
		return ok && e.gone && e.deleted == obj.GetUID()
	})
	for i, item := range items {
		obj, ok := item.(client.Object)
		if !ok {
			continue
		}
		name := client.ObjectKeyFromObject(obj)
		seen[name] = true
		k := key{gvk: gvk, name: name}
		e, ok := m.look(k)
		if !ok {
			continue
		}
		switch {
		case e.object != nil && newer(e.object, obj) && sameType(e.object, obj):
			obj = e.object.DeepCopyObject().(client.Object)
		case e.deleted == "" || e.deleted != obj.GetUID() || obj.GetDeletionTimestamp() != nil:
			m.drop(k)
			continue
		}
		mark(obj, e)
		items[i] = obj
	}
	for name := range m.written[gvk] {
		e, ok := m.look(key{gvk: gvk, name: name})
		if !ok || seen[name] || e.object == nil || e.deleted != "" || !c.selected(e.object, o) {
			continue
		}
		items = append(items, e.object.DeepCopyObject())
	}
	return items
}

func (c *Client) selected(obj client.Object, o client.ListOptions) bool {
	if o.Namespace != "" && o.Namespace != obj.GetNamespace() {
		return false
	}
	if o.FieldSelector != nil {
		for _, wanted := range o.FieldSelector.Requirements() {
			values, known := c.indexes[wanted.Field]
			if !known || !slices.Contains(values(obj), wanted.Value) {
				return false // an index that is not known here: the watch will bring the object
			}
		}
	}
	return o.LabelSelector == nil || o.LabelSelector.Matches(labels.Set(obj.GetLabels()))
}

func (c *Client) key(obj client.Object) (key, bool) {
	gvk, err := apiutil.GVKForObject(obj, c.Scheme())
	if err != nil {
		return key{}, false
	}
	return key{gvk: gvk, name: client.ObjectKeyFromObject(obj)}, true
}

func overlay(into, from client.Object, otherwise error) error {
	if !sameType(into, from) {
		return otherwise
	}
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(from.DeepCopyObject()).Elem())
	return nil
}

func sameType(a, b client.Object) bool { return reflect.TypeOf(a) == reflect.TypeOf(b) }

// newer compares resource versions, which the API server promises to be ordered within a resource. Doubt means: the
// cache.
func newer(written, cached client.Object) bool {
	order, err := resourceversion.CompareResourceVersion(written.GetResourceVersion(), cached.GetResourceVersion())
	return err == nil && order > 0
}
