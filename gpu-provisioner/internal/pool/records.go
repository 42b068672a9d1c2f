// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// OperationsConfigMap keeps the resume tokens of running operations in the operator's namespace.
const OperationsConfigMap = "gpu-provisioner-operations"

// OfferingsConfigMap keeps the unavailable offerings, for users, the CLI and the next process.
const OfferingsConfigMap = "gpu-provisioner-offerings"

// Records stores a small map of JSON values in a ConfigMap.
type Records struct {
	// Reader must read past the cache: the map is read once, and writes of an earlier process must be visible.
	Reader    client.Reader
	Writer    client.Writer
	Namespace string
	Name      string
}

// Load returns the values that parse as T. It logs and skips the others.
func Load[T any](ctx context.Context, r Records) (map[string]T, error) {
	cm := &corev1.ConfigMap{}
	err := r.Reader.Get(ctx, types.NamespacedName{Namespace: r.Namespace, Name: r.Name}, cm)
	if apierrors.IsNotFound(err) {
		return map[string]T{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s/%s: %w", r.Namespace, r.Name, err)
	}
	out := map[string]T{}
	for key, raw := range cm.Data {
		var v T
		if err := json.Unmarshal([]byte(raw), &v); err != nil {
			log.FromContext(ctx).Error(err, "Ignoring an entry that does not parse", "configMap", r.Name, "key", key)
			continue
		}
		out[key] = v
	}
	return out, nil
}

// Save writes the whole map. The leader is the only writer.
func Save[T any](ctx context.Context, r Records, values map[string]T) error {
	data := map[string]string{}
	for key, v := range values {
		raw, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encoding %s of ConfigMap %s: %w", key, r.Name, err)
		}
		data[key] = string(raw)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Namespace: r.Namespace, Name: r.Name, Labels: map[string]string{"app.kubernetes.io/managed-by": "gpu-provisioner"},
	}, Data: data}
	err := r.Writer.Update(ctx, cm)
	if apierrors.IsNotFound(err) {
		err = r.Writer.Create(ctx, cm)
	}
	if err != nil {
		return fmt.Errorf("writing ConfigMap %s/%s: %w", r.Namespace, r.Name, err)
	}
	return nil
}
