// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/lru"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/workspace-operator/internal/configfile"
)

const (
	// maxKeptTexts bounds the texts of ConfigMaps that are kept in memory, in bytes of all together. A text that has been
	// dropped costs one request when it is needed again.
	maxKeptTexts = 16 << 20
	// maxKeptEntries bounds their number, since an entry costs memory besides its text.
	maxKeptEntries = 4096
)

// configTexts reads ConfigMaps by name. The cache holds only their metadata: a ConfigMap that no Workspace names costs
// no memory for its data. A text is read from the API server once for each resource version, and the least recently
// used ones are dropped above maxKeptTexts.
type configTexts struct {
	// metadata reads PartialObjectMetadata from the cache, live the ConfigMap from the API server.
	metadata, live client.Reader

	mu   sync.Mutex
	kept *lru.Cache
	size int
}

func newConfigTexts(metadata, live client.Reader) *configTexts {
	c := &configTexts{metadata: metadata, live: live}
	c.kept = lru.NewWithEvictionFunc(maxKeptEntries, func(_ lru.Key, value any) { c.size -= len(value.(configText).text) })
	return c
}

// configKey is one key of one ConfigMap.
type configKey struct {
	types.NamespacedName
	key string
}

// configText is what a ConfigMap holds under a key.
type configText struct {
	version string
	text    string
	// found is false where the ConfigMap has no such key.
	found bool
	// bytes is the size of the text. One above configfile.MaxBytes is not kept: text is empty then.
	bytes int
}

// read returns the text under a key. The error is NotFound where there is no ConfigMap of the name.
func (c *configTexts) read(ctx context.Context, name types.NamespacedName, key string) (configText, error) {
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	if err := c.metadata.Get(ctx, name, meta); err != nil {
		return configText{}, err
	}
	at := configKey{NamespacedName: name, key: key}
	if kept, ok := c.get(at); ok && kept.version == meta.ResourceVersion {
		return kept, nil
	}
	cm := &corev1.ConfigMap{}
	if err := c.live.Get(ctx, name, cm); err != nil {
		return configText{}, fmt.Errorf("reading the data: %w", err)
	}
	out := configText{version: cm.ResourceVersion}
	out.text, out.found = cm.Data[key]
	if out.bytes = len(out.text); out.bytes > configfile.MaxBytes {
		out.text = ""
	}
	c.put(at, out)
	return out, nil
}

func (c *configTexts) get(at configKey) (configText, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, ok := c.kept.Get(at)
	if !ok {
		return configText{}, false
	}
	return value.(configText), true
}

func (c *configTexts) put(at configKey, text configText) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept.Remove(at)
	c.kept.Add(at, text)
	for c.size += len(text.text); c.size > maxKeptTexts; {
		c.kept.RemoveOldest()
	}
}
