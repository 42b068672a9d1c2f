// SPDX-License-Identifier: Apache-2.0

// Package corpus_test sends valid and invalid objects to a real API server with the CRDs of this repository. It must
// accept each valid object, and refuse each invalid one with a message that says what to do.
package corpus_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/test/cluster"
)

var shared client.Client

func TestMain(m *testing.M) {
	os.Exit(cluster.Main(m, cluster.Options{CRDPaths: []string{"../../api/crds"}}, func(c *cluster.Cluster) {
		var err error
		if shared, err = client.New(c.Config(), client.Options{}); err != nil {
			panic(err)
		}
	}))
}

// read returns the documents of a file and the text after "# want: " in its first line.
func read(t *testing.T, file string) ([]*unstructured.Unstructured, string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(raw), "\n")
	want, _ := strings.CutPrefix(first, "# want: ")
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096)
	for {
		u := &unstructured.Unstructured{}
		if err := decoder.Decode(&u.Object); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		if len(u.Object) == 0 {
			continue
		}
		namespaced, err := shared.IsObjectNamespaced(u)
		require.NoError(t, err)
		if namespaced {
			u.SetNamespace("default")
		}
		objects = append(objects, u)
	}
	require.NotEmpty(t, objects, "a file without objects tests nothing")
	return objects, want
}

func files(t *testing.T, patterns ...string) []string {
	t.Helper()
	var all []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, found, pattern)
		all = append(all, found...)
	}
	return all
}

func TestValidObjectsAreAccepted(t *testing.T) {
	for _, file := range files(t, "testdata/valid/*.yaml", "../../../examples/*/*.yaml", "../../../*/config/samples/*_*.yaml") {
		t.Run(strings.TrimPrefix(filepath.ToSlash(file), "../../../"), func(t *testing.T) {
			objects, _ := read(t, file)
			for _, u := range objects {
				require.NoError(t, shared.Create(t.Context(), u.DeepCopy(), client.DryRunAll, client.FieldValidation("Strict")))
			}
		})
	}
}

func TestInvalidObjectsAreRefused(t *testing.T) {
	for _, file := range files(t, "testdata/invalid/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			objects, want := read(t, file)
			require.NotEmpty(t, want, "the first line says what the API server answers: # want: …")
			require.Len(t, objects, 1)
			err := shared.Create(t.Context(), objects[0], client.DryRunAll)
			require.Error(t, err, "it must be refused")
			assert.True(t, apierrors.IsInvalid(err), "%v", err)
			assert.Contains(t, err.Error(), want)
		})
	}
}

// A file in testdata/immutable has two documents: the existing object and the refused change.
func TestImmutableFieldsCannotChange(t *testing.T) {
	for _, file := range files(t, "testdata/immutable/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			objects, want := read(t, file)
			require.Len(t, objects, 2)
			require.NotEmpty(t, want)
			before, after := objects[0], objects[1]
			require.NoError(t, shared.Create(t.Context(), before))
			t.Cleanup(func() { assert.NoError(t, client.IgnoreNotFound(shared.Delete(context.Background(), before))) })
			after.SetResourceVersion(before.GetResourceVersion())
			err := shared.Update(t.Context(), after)
			require.Error(t, err)
			assert.Contains(t, err.Error(), want)
		})
	}
}

func TestBothVersionsServeTheSameObject(t *testing.T) {
	objects, _ := read(t, "../../../examples/fine-tuning/kaito_workspace_tuning_phi_3.yaml")
	alpha := objects[0]
	alpha.SetName("both-versions")
	require.NoError(t, shared.Create(t.Context(), alpha))
	t.Cleanup(func() { assert.NoError(t, shared.Delete(context.Background(), alpha)) })
	beta := &unstructured.Unstructured{}
	beta.SetAPIVersion("kaito.sh/v1beta1")
	beta.SetKind("Workspace")
	require.NoError(t, shared.Get(t.Context(), client.ObjectKeyFromObject(alpha), beta))
	for _, section := range []string{"resource", "tuning"} {
		assert.Equal(t, alpha.Object[section], beta.Object[section], section)
	}
}
