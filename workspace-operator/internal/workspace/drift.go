// SPDX-License-Identifier: Apache-2.0

package workspace

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

// annotationForeign is only in memory: a digest of the fields of the specification that somebody else has written last.
// The API server keeps account of that in managedFields, which are too large to be kept.
const annotationForeign = "internal.kaito.sh/foreign-fields"

// noteForeign replaces managedFields by the digest.
func noteForeign(obj client.Object) {
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

// foreignFields is equal for equal sets of fields under spec that are not the operator's; empty when there are none.
// What a field is written by an apply, an update or the scale subresource does not matter; the status is everybody
// else's anyway.
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

// drift remembers which foreign fields are left after what is ours has been applied again: those are fields that the
// operator does not set. After a restart each object that has such fields is applied once more, which the API server
// takes as no change.
type drift struct {
	mu sync.Mutex
	// tolerated digests, by Workspace and object.
	tolerated map[types.UID]map[types.UID]string
}

func workspaceOf(obj client.Object) types.UID {
	return types.UID(obj.GetLabels()[kaitov1alpha1.LabelWorkspaceUID])
}

// found says whether somebody has written to the specification of an object since it was applied.
func (d *drift) found(obj client.Object) bool {
	digest := obj.GetAnnotations()[annotationForeign]
	if digest == "" {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tolerated[workspaceOf(obj)][obj.GetUID()] != digest
}

// repaired notes what is left of foreign fields in an object that was applied.
func (d *drift) repaired(obj client.Object) {
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

// forget drops what is known of a Workspace's objects.
func (d *drift) forget(w types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tolerated, w)
}

// current is what patch.Apply compares with: an object that has drifted does not look applied.
func (d *drift) current(obj client.Object) client.Object {
	if obj == nil || !d.found(obj) {
		return obj
	}
	out := obj.DeepCopyObject().(client.Object)
	annotations := out.GetAnnotations()
	delete(annotations, patch.AnnotationIntent)
	out.SetAnnotations(annotations)
	return out
}
