// Package recent lets a reconciler read what it has just written before the watch has brought it back. Without it a pass that
// follows closely on another sees the world before its own writes: it would create again what it has created, and meet a
// conflict where it patches. Correctness never rests on this memory, which dies with the process: names are
// deterministic, so that AlreadyExists and the resource version are the guards. What it saves is the requests they cost.
package recent

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// horizon is how long a write is remembered that no cache has shown. A watch brings a write back within milliseconds; after
// a minute the cache is believed whatever it says, for instance that somebody deleted the object at once.
const horizon = time.Minute

// Client reads from the caches of the client it wraps, and lays over that what was written through it and is newer.
type Client struct {
	client.Client
	clock clock.PassiveClock

	mu      sync.Mutex
	written map[schema.GroupVersionKind]map[types.NamespacedName]entry
	swept   time.Time
}

type key struct {
	gvk  schema.GroupVersionKind
	name types.NamespacedName
}

type entry struct {
	object  client.Object // nil: only the deletion is known
	deleted types.UID     // the UID that was asked to go
	gone    bool          // it has gone: the last finalizer was taken from it
	at      time.Time
}

// New wraps c. The clock only tells when a write is too old to be laid over anything.
func New(c client.Client, clk clock.PassiveClock) *Client {
	return &Client{Client: c, clock: clk, written: map[schema.GroupVersionKind]map[types.NamespacedName]entry{}}
}

// Forget drops what was written to an object, when a watch has told that it is gone.
func (c *Client) Forget(obj client.Object) {
	k, ok := c.key(obj)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(k)
}

// Wrote says whether obj is just what was written last: an event that shows it tells nothing new to the pass that wrote it.
func (c *Client) Wrote(obj client.Object) bool {
	k, ok := c.key(obj)
	if !ok {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.look(k)
	return ok && e.object != nil && e.object.GetResourceVersion() == obj.GetResourceVersion()
}

// ForgetKind drops what was written to objects of a kind, when it is no longer watched: no watch will tell that they are gone.
func (c *Client) ForgetKind(of client.Object) {
	k, ok := c.key(of)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.written, k.gvk)
}

// Get reads the newer of the cached and the written object.
func (c *Client) Get(ctx context.Context, name client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	err := c.Client.Get(ctx, name, obj, opts...)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	gvk, gvkErr := apiutil.GVKForObject(obj, c.Scheme())
	if gvkErr != nil {
		return err
	}
	k := key{gvk: gvk, name: name}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.look(k)
	if !ok {
		return err
	}
	if err != nil {
		if e.object == nil || e.deleted != "" {
			c.drop(k) // it was there when it was written: it has gone
			return err
		}
		return overlay(obj, e.object, err)
	}
	if e.gone && e.deleted == obj.GetUID() {
		return apierrors.NewNotFound(schema.GroupResource{Group: gvk.Group, Resource: gvk.Kind}, name.Name)
	}
	if e.object != nil && newer(e.object, obj) {
		if failed := overlay(obj, e.object, nil); failed != nil {
			return failed
		}
	} else if e.deleted == "" || e.deleted != obj.GetUID() || obj.GetDeletionTimestamp() != nil {
		c.drop(k)
		return nil
	}
	mark(obj, e)
	return nil
}

// List reads the cached objects, each in its newer form, and those that were written and are not cached yet.
func (c *Client) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if err := c.Client.List(ctx, list, opts...); err != nil {
		return err
	}
	gvk, err := apiutil.GVKForObject(list, c.Scheme())
	if err != nil {
		return nil // a list of a kind that is not ours to write
	}
	gvk.Kind = gvk.Kind[:len(gvk.Kind)-len("List")]
	var o client.ListOptions
	o.ApplyOptions(opts)

	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.written[gvk]) == 0 {
		return nil
	}
	items, err := meta.ExtractList(list)
	if err != nil {
		return nil // a list that holds no objects has nothing to lay anything over
	}
	return meta.SetList(list, c.merge(gvk, items, o))
}

func (c *Client) merge(gvk schema.GroupVersionKind, items []runtime.Object, o client.ListOptions) []runtime.Object {
	seen := map[types.NamespacedName]bool{}
	items = slices.DeleteFunc(items, func(item runtime.Object) bool {
		obj, ok := item.(client.Object)
		if !ok {
			return false
		}
		e, ok := c.look(key{gvk: gvk, name: client.ObjectKeyFromObject(obj)})
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
		e, ok := c.look(k)
		if !ok {
			continue
		}
		switch {
		case e.object != nil && newer(e.object, obj) && sameType(e.object, obj):
			obj = e.object.DeepCopyObject().(client.Object)
		case e.deleted == "" || e.deleted != obj.GetUID() || obj.GetDeletionTimestamp() != nil:
			c.drop(k)
			continue
		}
		mark(obj, e)
		items[i] = obj
	}
	for name := range c.written[gvk] {
		e, ok := c.look(key{gvk: gvk, name: name})
		if !ok || seen[name] || e.object == nil || e.deleted != "" || !selected(e.object, o) {
			continue
		}
		items = append(items, e.object.DeepCopyObject())
	}
	return items
}

// look returns a write that is young enough.
func (c *Client) look(k key) (entry, bool) {
	e, ok := c.written[k.gvk][k.name]
	if ok && c.clock.Since(e.at) > horizon {
		c.drop(k)
		return entry{}, false
	}
	return e, ok
}

func (c *Client) drop(k key) { delete(c.written[k.gvk], k.name) }

func (c *Client) keep(k key, e entry) {
	if c.written[k.gvk] == nil {
		c.written[k.gvk] = map[types.NamespacedName]entry{}
	}
	c.written[k.gvk][k.name] = e
}

// Create writes and remembers.
func (c *Client) Create(ctx context.Context, obj client.Object, opts ...client.CreateOption) error {
	var o client.CreateOptions
	o.ApplyOptions(opts)
	if err := c.Client.Create(ctx, obj, opts...); err != nil {
		return err
	}
	if len(o.DryRun) == 0 {
		c.remember(obj)
	}
	return nil
}

// Update writes and remembers.
func (c *Client) Update(ctx context.Context, obj client.Object, opts ...client.UpdateOption) error {
	if err := c.Client.Update(ctx, obj, opts...); err != nil {
		return err
	}
	c.remember(obj)
	return nil
}

// Patch writes and remembers.
func (c *Client) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
	if err := c.Client.Patch(ctx, obj, patch, opts...); err != nil {
		return err
	}
	c.remember(obj)
	return nil
}

// Delete writes and remembers that the object is on its way out.
func (c *Client) Delete(ctx context.Context, obj client.Object, opts ...client.DeleteOption) error {
	if err := c.Client.Delete(ctx, obj, opts...); err != nil {
		return err
	}
	if k, ok := c.key(obj); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.keep(k, entry{deleted: obj.GetUID(), at: c.clock.Now()})
	}
	return nil
}

// Apply writes and remembers.
func (c *Client) Apply(ctx context.Context, config runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	if err := c.Client.Apply(ctx, config, opts...); err != nil {
		return err
	}
	// The answer is in the configuration itself, which is an unstructured object in patch.Apply.
	u, ok := config.(interface {
		UnstructuredContent() map[string]any
		GroupVersionKind() schema.GroupVersionKind
	})
	if !ok {
		return nil
	}
	typed, err := c.Scheme().New(u.GroupVersionKind())
	if err != nil {
		return nil // not a kind that is read through this client
	}
	obj, ok := typed.(client.Object)
	if !ok || runtime.DefaultUnstructuredConverter.FromUnstructured(u.UnstructuredContent(), obj) != nil {
		return nil // a written object that cannot be read back is left to the watch
	}
	c.remember(obj)
	return nil
}

// Status writes and remembers.
func (c *Client) Status() client.SubResourceWriter {
	return statusWriter{SubResourceWriter: c.Client.Status(), client: c}
}

type statusWriter struct {
	client.SubResourceWriter
	client *Client
}

// Patch writes and remembers.
func (w statusWriter) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
	if err := w.SubResourceWriter.Patch(ctx, obj, patch, opts...); err != nil {
		return err
	}
	w.client.remember(obj)
	return nil
}

func (c *Client) remember(obj client.Object) {
	k, ok := c.key(obj)
	if !ok || obj.GetResourceVersion() == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if obj.GetDeletionTimestamp() != nil && len(obj.GetFinalizers()) == 0 {
		// The write that took the last finalizer: the object is gone.
		c.keep(k, entry{deleted: obj.GetUID(), gone: true, at: c.clock.Now()})
		return
	}
	c.keep(k, entry{object: obj.DeepCopyObject().(client.Object), at: c.clock.Now()})
	c.sweep()
}

// sweep keeps the memory from growing by objects that are written and never read again.
func (c *Client) sweep() {
	if c.clock.Since(c.swept) < horizon {
		return
	}
	c.swept = c.clock.Now()
	for _, names := range c.written {
		for name, e := range names {
			if c.clock.Since(e.at) > horizon {
				delete(names, name)
			}
		}
	}
}

func (c *Client) key(obj client.Object) (key, bool) {
	gvk, err := apiutil.GVKForObject(obj, c.Scheme())
	if err != nil {
		return key{}, false
	}
	return key{gvk: gvk, name: client.ObjectKeyFromObject(obj)}, true
}

// mark shows an object that was asked to go as being deleted.
func mark(obj client.Object, e entry) {
	if e.deleted != "" && obj.GetUID() == e.deleted && obj.GetDeletionTimestamp() == nil {
		at := metav1.NewTime(e.at)
		obj.SetDeletionTimestamp(&at)
	}
}

func overlay(into, from client.Object, otherwise error) error {
	if !sameType(into, from) {
		return otherwise
	}
	reflect.ValueOf(into).Elem().Set(reflect.ValueOf(from.DeepCopyObject()).Elem())
	return nil
}

func sameType(a, b client.Object) bool { return reflect.TypeOf(a) == reflect.TypeOf(b) }

// newer compares resource versions, which the API server promises to be ordered within a resource. Doubt means: the cache.
func newer(written, cached client.Object) bool {
	order, err := resourceversion.CompareResourceVersion(written.GetResourceVersion(), cached.GetResourceVersion())
	return err == nil && order > 0
}

func selected(obj client.Object, o client.ListOptions) bool {
	if o.Namespace != "" && o.Namespace != obj.GetNamespace() {
		return false
	}
	if o.FieldSelector != nil && !o.FieldSelector.Empty() {
		return false // an index's key is not known here: the watch will bring it
	}
	return o.LabelSelector == nil || o.LabelSelector.Matches(labels.Set(obj.GetLabels()))
}
