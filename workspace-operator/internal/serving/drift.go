// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/patch"
)

// annotationForeign exists only in memory: a digest of the fields of the specification that other clients wrote last.
// The API server lists them in managedFields, which are too large to cache.
const annotationForeign = "internal.kaito.sh/foreign-fields"

// DigestForeignFields replaces an object's managedFields by a digest of the fields that other clients wrote.
func DigestForeignFields(obj client.Object) {
	digest := foreignFields(obj.GetManagedFields())
	obj.SetManagedFields(nil)
	if digest == "" {
		return
	}
	annotations := obj.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationForeign] = digest
	obj.SetAnnotations(annotations)
}

// foreignFields returns the same digest for the same set of fields under spec that other clients wrote; empty for none.
// The kind of write does not matter. The status is ignored, since the operator never writes it.
func foreignFields(managed []metav1.ManagedFieldsEntry) string {
	type part struct {
		manager string
		spec    json.RawMessage
	}
	var parts []part
	for _, entry := range managed {
		if entry.Manager == kaitov1alpha1.FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply ||
			entry.Subresource == "status" ||
			entry.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec json.RawMessage `json:"f:spec"`
		}
		if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil || len(fields.Spec) == 0 {
			continue
		}
		parts = append(parts, part{entry.Manager, fields.Spec})
	}
	if len(parts) == 0 {
		return ""
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.manager, b.manager), cmp.Compare(string(a.spec), string(b.spec)))
	})
	sum := sha256.New()
	for _, p := range parts {
		_, _ = sum.Write(append([]byte(p.manager+"\x00"), p.spec...)) // a hash takes everything
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// Drift remembers which foreign fields remain after an object was applied again: the operator does not set those. After
// a restart, each object with such fields is applied once more, which changes nothing.
type Drift struct {
	mu sync.Mutex
	// tolerated has digests by Workspace and object.
	tolerated map[types.UID]map[types.UID]string
	// settled has, by Workspace, the version of an object that always has the same specification.
	settled map[types.UID]objectVersion
}

// objectVersion is one state of an object.
type objectVersion struct {
	uid             types.UID
	resourceVersion string
}

// NewDrift returns an empty memory.
func NewDrift() *Drift {
	return &Drift{tolerated: map[types.UID]map[types.UID]string{}, settled: map[types.UID]objectVersion{}}
}

// Settled returns whether the object is as it was when Settle was called with it.
func (d *Drift) Settled(obj client.Object) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settled[workspaceOf(obj)] == objectVersion{obj.GetUID(), obj.GetResourceVersion()}
}

// Settle records an object that needs no change, so that it is not rendered again to find that out. There is one a
// Workspace.
func (d *Drift) Settle(obj client.Object) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled[workspaceOf(obj)] = objectVersion{obj.GetUID(), obj.GetResourceVersion()}
}

func workspaceOf(obj client.Object) types.UID {
	return types.UID(obj.GetLabels()[kaitov1alpha1.LabelWorkspaceUID])
}

// Found returns whether another client has changed the specification of an object since it was applied.
func (d *Drift) Found(obj client.Object) bool {
	digest := obj.GetAnnotations()[annotationForeign]
	if digest == "" {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tolerated[workspaceOf(obj)][obj.GetUID()] != digest
}

// Repaired records the foreign fields that remain in an object that was applied.
func (d *Drift) Repaired(obj client.Object) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := workspaceOf(obj)
	delete(d.tolerated[w], obj.GetUID())
	if digest := obj.GetAnnotations()[annotationForeign]; digest != "" {
		if d.tolerated[w] == nil {
			d.tolerated[w] = map[types.UID]string{}
		}
		d.tolerated[w][obj.GetUID()] = digest
	}
}

// Forget drops all records of a Workspace.
func (d *Drift) Forget(w types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tolerated, w)
	delete(d.settled, w)
}

// Current returns the object that patch.Apply compares with: without its intent where it has drifted, so that it is
// applied again.
func (d *Drift) Current(obj client.Object) client.Object {
	if obj == nil || !d.Found(obj) {
		return obj
	}
	out := obj.DeepCopyObject().(client.Object)
	annotations := out.GetAnnotations()
	delete(annotations, patch.AnnotationIntent)
	out.SetAnnotations(annotations)
	return out
}
