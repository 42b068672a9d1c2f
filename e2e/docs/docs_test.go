// SPDX-License-Identifier: Apache-2.0

// Package docs_test does what the pages say: every manifest in them is shown to a real API server, and every command
// that can run without a cloud is run, in the order of the page, on the whole stack or on a bare control plane. `go
// test -v` prints what was not run, and why.
package docs_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	"kaito.sh/shared/test/cluster"
)

// installing are the pages that install the operators themselves; they begin on a cluster that has none, in this order.
// All others use the whole stack.
var installing = []string{
	"docs/install-aks.md",
	"README.md",
	"workspace-operator/README.md",
	"tuning-operator/README.md",
	"gpu-provisioner/README.md",
	"docs/swap-provider.md",
	"docs/uninstall.md",
}

// servedModel is the Workspace of the page that asks for a model by its name.
const servedModel = "workspace-phi-4-mini"

func TestWhatThePagesSayWorks(t *testing.T) {
	t.Parallel()
	root := stacktest.Root(t)
	pages, err := documents(root)
	require.NoError(t, err)
	full := stacktest.Start(t, stack.Options{ServedModels: []string{servedModel}})
	bare := cluster.ForTest(t, cluster.Options{ControllerManager: true, Scheduler: true, KWOK: true})
	join(t, full.Cluster.Config(), "my-gpu-node", "Standard_NC24ads_A100_v4")
	join(t, bare.Config(), "system-node", "Standard_D8s_v5")
	strict := client.WithFieldValidation(full.Client, metav1.FieldValidationStrict)
	table := newReport()
	read := func(t *testing.T, d document, c *cluster.Cluster, fill ...string) {
		w := &walk{
			document:  d,
			report:    table,
			folder:    clone(t, root),
			strict:    strict,
			namespace: name(d.path),
			guest:     c == full.Cluster,
			fill:      strings.NewReplacer(fill...),
			forwards:  map[string]string{},
		}
		w.kubeconfig = reader(t, c, w.namespace, w.folder.home)
		createNamespace(t, full.Cluster.Config(), w.namespace)
		for _, problem := range w.run(t.Context()) {
			t.Error(problem)
		}
	}
	t.Run("pages", func(t *testing.T) {
		t.Run("that install", func(t *testing.T) {
			t.Parallel()
			for _, path := range installing {
				if i := slices.IndexFunc(pages, func(d document) bool { return d.path == path }); i >= 0 {
					t.Run(path, func(t *testing.T) { read(t, pages[i], bare) })
				}
			}
		})
		for _, d := range pages {
			if slices.Contains(installing, d.path) || len(d.blocks) == 0 {
				continue
			}
			t.Run(d.path, func(t *testing.T) {
				t.Parallel()
				read(t, d, full.Cluster, "registry.example.com", full.RegistryHost())
			})
		}
	})
	t.Log(table)
}

// name is a namespace for a page.
func name(path string) string {
	return strings.ToLower(strings.NewReplacer("/", "-", ".md", "", "_", "-").Replace(path))
}

// reader writes a kubeconfig for who reads a page: its context's namespace is one of the page's own.
func reader(t *testing.T, c *cluster.Cluster, namespace, home string) string {
	t.Helper()
	createNamespace(t, c.Config(), namespace)
	config, err := clientcmd.LoadFromFile(c.Kubeconfig())
	require.NoError(t, err)
	config.Contexts[config.CurrentContext].Namespace = namespace
	file := filepath.Join(home, "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*config, file))
	return file
}

func createNamespace(t *testing.T, config *rest.Config, namespace string) {
	t.Helper()
	c, err := client.New(config, client.Options{})
	require.NoError(t, err)
	assert.NoError(
		t,
		client.IgnoreAlreadyExists(c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})),
	)
}

// join makes a simulated node of a size, as a person would have made it.
func join(t *testing.T, config *rest.Config, name, size string) {
	t.Helper()
	clients, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	require.NoError(t, fakeazure.NewKWOK(clients).Join(t.Context(), fakeazure.VM{
		Name: name, Size: size, ProviderID: "azure:///docs/" + name, Pool: "mine", Location: "eastus", GPU: true,
	}))
}
