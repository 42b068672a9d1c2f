// SPDX-License-Identifier: Apache-2.0

package independence_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	kwokapis "sigs.k8s.io/karpenter/kwok/apis"
	"sigs.k8s.io/yaml"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/conditions"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/process"
)

// kwokClass is the class of Karpenter's own provider of simulated nodes, as --node-class names it.
const kwokClass = kwokapis.Group + "/KWOKNodeClass/default"

func TestKarpenterProviderReplacesTheGPUProvisioner(t *testing.T) {
	t.Parallel()
	args := map[stack.Operator][]string{stack.WorkspaceOperator: {"--node-class=" + kwokClass}} // read at each Run
	s := startStack(t, stack.Options{Operators: []stack.Operator{stack.WorkspaceOperator, stack.TuningOperator}, Args: args})
	startKarpenter(t, s)

	t.Run("chosen by --node-class alone", func(t *testing.T) { servedByKarpenter(t, s) })

	t.Run("chosen by the overlay, where a gpu-provisioner has left its kinds behind", func(t *testing.T) {
		require.NoError(t, s.InstallCRDs(t.Context(), stack.GPUProvisioner))
		require.NoError(t, s.StopOperator(stack.WorkspaceOperator))
		require.NoError(t, s.InstallFrom(t.Context(), stack.WorkspaceOperator, "e2e/independence/testdata/karpenter-kwok"))
		args[stack.WorkspaceOperator] = withoutLease // the overlay says the rest
		require.NoError(t, s.Run(t.Context(), stack.WorkspaceOperator))
		servedByKarpenter(t, s)
	})
}

// servedByKarpenter brings the quick start's Workspace to Ready and away again, on a node of Karpenter's.
func servedByKarpenter(t *testing.T, s *stack.Stack) {
	t.Helper()
	workspace := stacktest.QuickStart(t, s)
	got := stacktest.EventuallyWorkspace(t, s, workspace.Name, stacktest.Ready)
	assert.True(t, conditions.IsTrue(got, kaitov1alpha1.ConditionNodeClaimReady))

	claims := objects(t, s, "karpenter.sh/v1", "NodeClaim")
	require.Len(t, claims, 1)
	class, _, err := unstructured.NestedStringMap(claims[0].Object, "spec", "nodeClassRef")
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"group": kwokapis.Group, "kind": "KWOKNodeClass", "name": "default"}, class)

	nodes := &corev1.NodeList{}
	require.NoError(t, s.Client.List(t.Context(), nodes))
	require.Len(t, nodes.Items, 1)
	node := nodes.Items[0]
	assert.Equal(t, "kwok://"+node.Name, node.Spec.ProviderID, "Karpenter's provider made the node")
	assert.Equal(t, []string{node.Name}, got.Status.WorkerNodes)
	assert.Equal(t, "tuning-phi-3", node.Labels["app"], "the selector's labels are on the node")
	assert.Equal(t, string(got.UID), node.Labels[kaitov1alpha1.LabelWorkspaceUID])

	stacktest.Delete(t, s, workspace)
	stacktest.NothingLeft(t, s)
}

// startKarpenter installs the provider's node class and runs its binary, which `make controlplane-karpenter` builds
// from Karpenter's module. It has every right: what Karpenter needs is Karpenter's affair.
func startKarpenter(t *testing.T, s *stack.Stack) {
	t.Helper()
	_, err := envtest.InstallCRDs(s.Cluster.Config(), envtest.CRDInstallOptions{CRDs: kwokapis.CRDs})
	require.NoError(t, err)
	class := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{}}}
	class.SetAPIVersion(kwokapis.Group + "/v1alpha1")
	class.SetKind("KWOKNodeClass")
	class.SetName("default")
	require.NoError(t, s.Client.Create(t.Context(), class))

	binary, err := cluster.Binary("karpenter-kwok")
	require.NoError(t, err, "run `make controlplane-karpenter`")
	folder := t.TempDir()
	launcher, err := process.NewLauncher(folder)
	require.NoError(t, err)
	t.Cleanup(launcher.Close)
	karpenter, err := launcher.Start(process.Spec{Name: "karpenter-kwok", Binary: binary, Env: []string{
		"KUBECONFIG=" + s.Cluster.Kubeconfig(), "INSTANCE_TYPES_FILE_PATH=" + writeInstanceTypes(t, folder),
		"DISABLE_LEADER_ELECTION=true",
		// Any free port: Karpenter has no way to turn these off, or to say on which address.
		"METRICS_PORT=0", "HEALTH_PROBE_PORT=0",
	}})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("karpenter-kwok:\n%s", karpenter.Tail())
		}
		assert.NoError(t, karpenter.Died())
		assert.NoError(t, karpenter.Stop())
	})
}

// instanceType is an entry of the file that Karpenter's provider of simulated nodes reads its sizes from.
type instanceType struct {
	Name             string              `json:"name"`
	Architecture     string              `json:"architecture"`
	OperatingSystems []corev1.OSName     `json:"operatingSystems"`
	Resources        corev1.ResourceList `json:"resources"`
	Offerings        []offering          `json:"offerings"`
}

type offering struct {
	Price        float64
	Available    bool
	Requirements []corev1.NodeSelectorRequirement
}

// writeInstanceTypes offers the GPU sizes of the catalogue at their prices, on demand in one zone.
func writeInstanceTypes(t *testing.T, folder string) string {
	t.Helper()
	sizes, err := catalog.Load()
	require.NoError(t, err)
	var types []instanceType
	for _, size := range sizes.Sizes() {
		price, _ := sizes.LowestPrice(size.Name)
		types = append(types, instanceType{
			Name: size.Name, Architecture: "amd64", OperatingSystems: []corev1.OSName{corev1.Linux},
			Resources: corev1.ResourceList{
				corev1.ResourceCPU:              *resource.NewQuantity(int64(size.VCPUs), resource.DecimalSI),
				corev1.ResourceMemory:           resource.MustParse(fmt.Sprintf("%dGi", size.RAMGiB)),
				kaitov1alpha1.ResourceNvidiaGPU: *resource.NewQuantity(int64(size.GPUs), resource.DecimalSI),
			},
			Offerings: []offering{{Price: price.USDPerHour, Available: true, Requirements: []corev1.NodeSelectorRequirement{
				{Key: "karpenter.sh/capacity-type", Operator: corev1.NodeSelectorOpIn, Values: []string{"on-demand"}},
				{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"simulated"}},
			}}},
		})
	}
	text, err := json.Marshal(types)
	require.NoError(t, err)
	file := filepath.Join(folder, "instance-types.json")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	return file
}

func TestWhatIsDocumentedIsWhatIsTested(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(stacktest.Root(t), "docs", "swap-provider.md"))
	require.NoError(t, err)
	_, block, found := strings.Cut(string(page), "   ```yaml\n")
	require.True(t, found, "docs/swap-provider.md has a kustomization.yaml")
	block, _, _ = strings.Cut(block, "   ```\n")
	tested, err := os.ReadFile("testdata/karpenter-kwok/kustomization.yaml")
	require.NoError(t, err)

	var want, got map[string]any
	block = strings.NewReplacer("\n   ", "\n",
		"../workspace-operator/config/overlays/karpenter", "../../../../workspace-operator/config/overlays/karpenter",
		"karpenter.example.com/ExampleNodeClass/default", kwokClass).Replace("\n" + block)
	require.NoError(t, yaml.Unmarshal([]byte(block), &want))
	require.NoError(t, yaml.Unmarshal(tested, &got))
	assert.Equal(t, want, got)
}
