// SPDX-License-Identifier: Apache-2.0

package recent

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Create writes and remembers.
func (c *Client) Create(ctx context.Context, obj client.Object, opts ...client.CreateOption) error {
	var o client.CreateOptions
	o.ApplyOptions(opts)
	if err := c.Client.Create(ctx, obj, opts...); err != nil {
		return err
	}
	if len(o.DryRun) == 0 {
		c.remember(ctx, obj, true)
	}
	return nil
}

// Update writes and remembers.
func (c *Client) Update(ctx context.Context, obj client.Object, opts ...client.UpdateOption) error {
	if err := c.Client.Update(ctx, obj, opts...); err != nil {
		return err
	}
	c.remember(ctx, obj, true) // of the resource version that was read
	return nil
}

// Patch writes and remembers.
func (c *Client) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
	if l, ok := patch.(locked); ok {
		return c.short(ctx, obj, func(answer client.Object) error { return c.Client.Patch(ctx, answer, l, opts...) })
	}
	p := &seen{Patch: patch}
	if err := c.Client.Patch(ctx, obj, p, opts...); err != nil {
		return err
	}
	c.remember(ctx, obj, p.locks())
	return nil
}

// Delete writes and remembers that the object is on its way out.
func (c *Client) Delete(ctx context.Context, obj client.Object, opts ...client.DeleteOption) error {
	if err := c.Client.Delete(ctx, obj, opts...); err != nil {
		return err
	}
	if k, ok := c.key(obj); ok {
		c.memory.keep(ctx, k, obj.GetUID(), entry{deleted: obj.GetUID()})
	}
	return nil
}

// Apply writes and remembers. The configuration has to be an unstructured object, as patch.Apply makes it. It is sent
// by way of a typed object, since the API server then answers built-in kinds in protobuf, which takes a fraction of the
// time to read; the configuration itself stays as it was.
func (c *Client) Apply(ctx context.Context, config runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
	u, ok := config.(interface {
		UnstructuredContent() map[string]any
		GroupVersionKind() schema.GroupVersionKind
		GetName() string
		GetNamespace() string
	})
	if !ok {
		return c.Client.Apply(ctx, config, opts...)
	}
	typed, err := c.Scheme().New(u.GroupVersionKind())
	if err != nil {
		return c.Client.Apply(ctx, config, opts...) // not a kind that is read through this client
	}
	obj, ok := typed.(client.Object)
	if !ok {
		return c.Client.Apply(ctx, config, opts...)
	}
	body, err := json.Marshal(u.UnstructuredContent())
	if err != nil {
		return fmt.Errorf("rendering %s %s: %w", u.GroupVersionKind().Kind, u.GetName(), err)
	}
	obj.SetName(u.GetName())
	obj.SetNamespace(u.GetNamespace())
	var o client.ApplyOptions
	o.ApplyOptions(opts)
	if err := c.Client.Patch(
		ctx, obj, client.RawPatch(types.ApplyPatchType, body),
		&client.PatchOptions{DryRun: o.DryRun, Force: o.Force, FieldManager: o.FieldManager},
	); err != nil {
		return err
	}
	if len(o.DryRun) == 0 {
		c.remember(ctx, obj, solelyBy(obj, o.FieldManager))
	}
	return nil
}

// solelyBy returns whether no other client has ever written an object. An apply carries no resource version: where
// others write too, its answer may show what they wrote after the pass had read the object.
func solelyBy(obj client.Object, manager string) bool {
	managed := obj.GetManagedFields()
	return len(managed) == 1 && managed[0].Manager == manager
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
func (w statusWriter) Patch(
	ctx context.Context, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption,
) error {
	if l, ok := patch.(locked); ok {
		return w.client.short(
			ctx, obj, func(answer client.Object) error { return w.SubResourceWriter.Patch(ctx, answer, l, opts...) },
		)
	}
	p := &seen{Patch: patch}
	if err := w.SubResourceWriter.Patch(ctx, obj, p, opts...); err != nil {
		return err
	}
	w.client.remember(ctx, obj, p.locks())
	return nil
}

// seen keeps the patch that was sent.
type seen struct {
	client.Patch
	sent []byte
}

// Data renders the patch.
func (p *seen) Data(obj client.Object) ([]byte, error) {
	data, err := p.Patch.Data(obj)
	p.sent = data
	return data, err
}

// locks says whether the patch was for the very version that it was made from: it then fails where another client has
// written meanwhile.
func (p *seen) locks() bool {
	var sent struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	return p.Type() == types.MergePatchType && json.Unmarshal(p.sent, &sent) == nil && sent.Metadata.ResourceVersion != ""
}

// locked is a patch of Locked.
type locked struct{ client.Patch }

// Locked is a patch that sets the value at the path to what the object that it is sent with holds there, and fails with
// a conflict where the object is not of the version any more. Nothing is rendered or compared but the value, and the
// API server is asked for no more than the metadata, since the rest is known: a whole object takes both sides several
// times as long.
func Locked(version, path string, value any) (client.Patch, error) {
	rendered, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("rendering %s: %w", path, err)
	}
	// The API server compares a resource version that a patch sets with the stored one.
	body := fmt.Appendf(
		nil,
		`[{"op":"replace","path":"/metadata/resourceVersion","value":%q},{"op":"add","path":%q,"value":%s}]`,
		version,
		path,
		rendered,
	)
	return locked{client.RawPatch(types.JSONPatchType, body)}, nil
}

// short sends a locked patch of obj and takes over the metadata of the answer.
func (c *Client) short(ctx context.Context, obj client.Object, send func(client.Object) error) error {
	k, ok := c.key(obj)
	if !ok {
		return fmt.Errorf("patching %T: the kind is not known", obj)
	}
	answer := &metav1.PartialObjectMetadata{}
	answer.SetGroupVersionKind(k.gvk)
	answer.SetName(k.name.Name)
	answer.SetNamespace(k.name.Namespace)
	if err := send(answer); err != nil {
		return err
	}
	obj.SetResourceVersion(answer.GetResourceVersion())
	obj.SetGeneration(answer.GetGeneration())
	obj.SetFinalizers(answer.GetFinalizers())
	obj.SetDeletionTimestamp(answer.GetDeletionTimestamp())
	c.remember(ctx, obj, true)
	return nil
}

func (c *Client) remember(ctx context.Context, obj client.Object, knowing bool) {
	k, ok := c.key(obj)
	if !ok || obj.GetResourceVersion() == "" {
		return
	}
	if obj.GetDeletionTimestamp() != nil && len(obj.GetFinalizers()) == 0 {
		// The write that took the last finalizer: the object is gone.
		c.memory.keep(ctx, k, obj.GetUID(), entry{deleted: obj.GetUID(), gone: true})
		return
	}
	kept := obj.DeepCopyObject().(client.Object)
	c.trim(kept)
	c.memory.keep(ctx, k, obj.GetUID(), entry{object: kept, knowing: knowing})
}
