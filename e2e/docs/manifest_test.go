// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// manifests looks at the objects of a block: a server that would take them is asked, and changes nothing. Other YAML
// has to be YAML. A block whose first line is a comment with a file's name is that file from then on.
func (w *walk) manifests(ctx context.Context, b block) error {
	folder, err := w.save(b)
	if err != nil {
		return err
	}
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(b.text)), 4096)
	for {
		var content any
		if err := decoder.Decode(&content); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("this is not YAML: %w", err)
		}
		if err := w.manifest(ctx, content, folder); err != nil {
			return err
		}
	}
	w.report.ran(w.document.path)
	return nil
}

func (w *walk) manifest(ctx context.Context, content any, folder string) error {
	fields, ok := content.(map[string]any)
	if !ok || fields["kind"] == nil || fields["apiVersion"] == nil {
		return nil
	}
	u := &unstructured.Unstructured{Object: fields}
	if u.GroupVersionKind().Group == "kustomize.config.k8s.io" {
		return w.kustomization(ctx, folder)
	}
	namespaced, err := w.strict.IsObjectNamespaced(u)
	if err != nil {
		return fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
	}
	if namespaced && u.GetNamespace() == "" {
		u.SetNamespace(w.namespace)
	}
	err = w.strict.Apply(
		ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("reader"), client.ForceOwnership,
		client.DryRunAll,
	)
	if err != nil {
		return fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return nil
}

// kustomization builds what a block has been saved as.
func (w *walk) kustomization(ctx context.Context, folder string) error {
	if folder == "" {
		return errors.New("a kustomization needs a name: make its first line a comment like # my-overlay/kustomization.yaml")
	}
	out, err := exec.CommandContext(ctx, filepath.Join(w.folder.tools, "kustomize"), "build", filepath.Join(w.folder.root, folder)).
		CombinedOutput()
	if err != nil {
		return fmt.Errorf("kustomize build %s: %w: %s", folder, err, out)
	}
	return nil
}
