// SPDX-License-Identifier: Apache-2.0

// Package manifests_test applies what users apply: every kustomization of the repository, to a real API server.
package manifests_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

// TestEveryKustomizationAppliesStrictlyAndTwice catches fields that no API has, objects that an API server refuses, two
// overlays of one operator that can't follow one another, and a second `kubectl apply` that would change something. The
// API server validates strictly, by the schemas that it serves and its own rules beyond them; kubeconform would know
// less, and its schemas need the network.
func TestEveryKustomizationAppliesStrictlyAndTwice(t *testing.T) {
	root := stacktest.Root(t)
	c := cluster.ForTest(t, cluster.Options{CRDPaths: []string{monitoringDefinitions(t, root)}})
	plain, err := client.New(c.Config(), client.Options{Scheme: runtime.NewScheme()})
	require.NoError(t, err)
	strict := client.WithFieldValidation(plain, metav1.FieldValidationStrict)
	for _, folder := range kustomizations(t, root) {
		t.Run(folder, func(t *testing.T) {
			first := apply(t, strict, build(t, root, folder))
			require.NotEmpty(t, first)
			assert.Equal(t, first, apply(t, strict, build(t, root, folder)), "what changes when it is applied again")
		})
	}
}

// kustomizations are the folders that a user applies, those that others stand on first. Folders that are only parts
// lack namespaces of their own, and samples are applied by the tests of their kinds.
func kustomizations(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{
		"*/config/crd", "*/config/karpenter-crds", "*/config/default", "*/config/with-karpenter-crds", "*/config/overlays/*", "config/all", "config/overlays/*", "config/overlays/*/*",
	} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, folder := range found {
			if _, err := os.Stat(filepath.Join(folder, "kustomization.yaml")); err != nil {
				continue // a file, or a folder of overlays
			}
			below, err := filepath.Rel(root, folder)
			require.NoError(t, err)
			out = append(out, below)
		}
	}
	require.Subset(t, out, everyOverlay(t, root), "an overlay in a folder that no pattern finds")
	return out
}

func everyOverlay(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{".git", "bin", "node_modules", "dist", "e2e", "hack"}, entry.Name()) {
			return filepath.SkipDir
		}
		if entry.Name() == "kustomization.yaml" &&
			strings.Contains(path, string(filepath.Separator)+"overlays"+string(filepath.Separator)) {
			below, err := filepath.Rel(root, filepath.Dir(path))
			out = append(out, below)
			return err
		}
		return nil
	}))
	return out
}

// monitoringDefinitions are the CRDs of Prometheus' operator, as its module has them: a ServiceMonitor and a
// PrometheusRule are validated by them.
func monitoringDefinitions(t *testing.T, root string) string {
	t.Helper()
	const module = "github.com/prometheus-operator/prometheus-operator"
	download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
	download.Dir, download.Env = filepath.Join(root, "hack", "tools", "monitoring"), append(os.Environ(), "GOWORK=off")
	out, err := download.Output()
	require.NoError(t, err, "%s", out)
	var found struct{ Dir string }
	require.NoError(t, json.Unmarshal(out, &found))
	return filepath.Join(found.Dir, "example", "prometheus-operator-crd")
}

func build(t *testing.T, root, folder string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := stack.Kustomize(t.Context(), root, folder)
	require.NoError(t, err)
	return objects
}

// apply applies as `kubectl apply --server-side` does, and returns each object's version: its generation where it has
// one, since the control plane writes the status of what it has just been given.
func apply(t *testing.T, c client.Client, objects []*unstructured.Unstructured) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for _, u := range objects {
		name := u.GetKind() + " " + u.GetNamespace() + "/" + u.GetName()
		require.EventuallyWithT(t, func(collect *assert.CollectT) {
			sent := u.DeepCopy()
			err := c.Apply(
				t.Context(), client.ApplyConfigurationFromUnstructured(sent), client.FieldOwner("kubectl"), client.ForceOwnership,
			)
			if meta.IsNoMatchError(err) {
				require.NoError(collect, err) // its definition was applied just before
			}
			require.NoError(t, err, name)
			versions[name] = strconv.FormatInt(sent.GetGeneration(), 10)
			if sent.GetGeneration() == 0 {
				versions[name] = "resource version " + sent.GetResourceVersion()
			}
		}, eventually.Short, eventually.StoryTick)
	}
	return versions
}
