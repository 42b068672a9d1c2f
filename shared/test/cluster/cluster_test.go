// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"kaito.sh/shared/test/audit"
	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

const (
	node      = "gpu-node"
	nodeIP    = "10.224.0.4"
	gpus      = corev1.ResourceName("nvidia.com/gpu")
	logLine   = "INFO: Application startup complete."
	podAnswer = "hello from the simulated engine"
)

// fixture is shared by the tests of this package.
type fixture struct {
	*cluster.Cluster
	client kubernetes.Interface
}

var shared fixture

// crashVariable makes this test binary start a cluster, print its folder and panic.
const crashVariable = "CLUSTER_TEST_CRASH"

func TestMain(m *testing.M) {
	if os.Getenv(crashVariable) != "" {
		c, err := cluster.Start(context.Background(), cluster.Options{})
		if err != nil {
			panic(err)
		}
		fmt.Println(c.Dir())
		panic("as a test might")
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s at %s", podAnswer, r.URL.Path)
	}))
	defer engine.Close()

	folder, err := os.MkdirTemp("", "cluster-test-*")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	logs := filepath.Join(folder, "engine.log")
	if err := os.WriteFile(logs, []byte("2026-01-02T15:04:05.000000000Z stdout F "+logLine+"\n"), 0o600); err != nil {
		panic(err)
	}

	return cluster.Main(m, cluster.Options{
		ControllerManager: true, Scheduler: true, KWOK: true, Log: os.Stderr,
		KWOKConfig: cluster.KWOKConfig{
			Forwards: []cluster.Forward{{Port: 5000, Target: engine.Listener.Addr().String()}},
			Logs:     []cluster.Logs{{Containers: []string{"engine"}, File: logs}},
		},
	}, func(c *cluster.Cluster) {
		client, err := kubernetes.NewForConfig(c.Config())
		if err != nil {
			panic(err)
		}
		shared = fixture{Cluster: c, client: client}
		if err := addNode(client); err != nil {
			panic(err)
		}
	})
}

// addNode creates a Node with its capacity and address, as a cloud does. KWOK then keeps it Ready.
func addNode(client kubernetes.Interface) error {
	ctx := context.Background()
	made, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:        node,
		Annotations: map[string]string{cluster.SimulatedNodeAnnotation: cluster.SimulatedNodeValue},
	}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	resources := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("24"), corev1.ResourceMemory: resource.MustParse("220Gi"),
		corev1.ResourcePods: resource.MustParse("110"), gpus: resource.MustParse("2"),
	}
	patch := fmt.Appendf(
		nil,
		`{"status":{"addresses":[{"type":"InternalIP","address":%q}],"capacity":%s,"allocatable":%[2]s}}`,
		nodeIP,
		mustJSON(resources),
	)
	_, err = client.CoreV1().Nodes().Patch(ctx, made.Name, mergePatch, patch, metav1.PatchOptions{}, "status")
	return err
}

func TestNodesAreKeptReady(t *testing.T) {
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got, err := shared.client.CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
		require.NoError(c, err)
		assert.Equal(c, corev1.ConditionTrue, nodeReady(got))
		assert.Empty(c, got.Spec.Taints, "the not-ready taint goes once the node is Ready")
		assert.Equal(c, "2", got.Status.Allocatable.Name(gpus, resource.DecimalSI).String())
		assert.Equal(c, "24", got.Status.Capacity.Cpu().String())
		assert.Contains(c, got.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: nodeIP})
	}, eventually.Long, eventually.Tick)
}

func TestNotReadyAnnotation(t *testing.T) {
	name := "sick-node"
	_, err := shared.client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name,
		Annotations: map[string]string{cluster.SimulatedNodeAnnotation: cluster.SimulatedNodeValue}}}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, shared.client.CoreV1().Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}))
	})
	becomes := func(status corev1.ConditionStatus) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			got, err := shared.client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
			require.NoError(c, err)
			assert.Equal(c, status, nodeReady(got))
		}, eventually.Long, eventually.Tick)
	}
	annotate := func(value string) {
		t.Helper()
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, cluster.NotReadyAnnotation, value)
		_, err := shared.client.CoreV1().Nodes().Patch(t.Context(), name, mergePatch, patch, metav1.PatchOptions{})
		require.NoError(t, err)
	}
	becomes(corev1.ConditionTrue)
	annotate(`"the GPU fell off the bus"`)
	becomes(corev1.ConditionFalse)
	annotate(`null`)
	becomes(corev1.ConditionTrue)
}

func TestServiceAccountHasTheRightsOfRBAC(t *testing.T) {
	namespace := newNamespace(t)
	_, err := shared.client.CoreV1().ServiceAccounts(namespace).Create(t.Context(),
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "operator"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	file, err := shared.ServiceAccountKubeconfig(t.Context(), namespace, "operator")
	require.NoError(t, err)
	config, err := clientcmd.BuildConfigFromFlags("", file)
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)

	_, err = client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
	require.True(t, apierrors.IsForbidden(err), "without a role a list must be forbidden, got: %v", err)
	require.ErrorContains(t, err, "system:serviceaccount:"+namespace+":operator", "the API server must know who asks")

	grantConfigMaps(t, namespace, "operator")
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, err := client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
		assert.NoError(c, err)
	}, eventually.Short, eventually.Tick)
	_, err = client.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{})
	assert.True(t, apierrors.IsForbidden(err), "a role for config maps must not open secrets, got: %v", err)

	// The end-to-end tests use the audit log to find the rules that operators lack.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		requests, err := audit.Open(shared.AuditLog()).
			Requests(audit.Mark{}, audit.ServiceAccount(namespace, "operator"), audit.Resource("secrets"))
		require.NoError(c, err)
		require.Len(c, requests, 1)
		assert.True(c, requests[0].Denied)
	}, eventually.Short, eventually.Tick)
}

func TestUnknownServiceAccountGetsNoToken(t *testing.T) {
	_, err := shared.ServiceAccountConfig(t.Context(), "default", "unknown")
	require.ErrorContains(t, err, "default/unknown")
	assert.True(t, apierrors.IsNotFound(err))
}

func TestPortForwardAndLogs(t *testing.T) {
	namespace := newNamespace(t)
	newEngine(t, namespace, 1, nil)
	waitForAvailable(t, namespace)

	kubectl, err := cluster.Binary("kubectl")
	require.NoError(t, err)
	forward := exec.CommandContext(t.Context(), kubectl, "--kubeconfig="+shared.Kubeconfig(), "--namespace="+namespace,
		"port-forward", "service/engine", ":80")
	output, err := forward.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, forward.Start())
	t.Cleanup(func() { _ = forward.Wait() }) // the end of the test's context kills it

	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	port := regexp.MustCompile(`Forwarding from 127\.0\.0\.1:(\d+) -> 5000`).FindStringSubmatch(line)
	require.Len(t, port, 2, "kubectl said: %s", line)
	response, err := http.Get("http://127.0.0.1:" + port[1] + "/v1/models")
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, podAnswer+" at /v1/models", string(body))

	logs, err := exec.CommandContext(t.Context(), kubectl, "--kubeconfig="+shared.Kubeconfig(), "--namespace="+namespace,
		"logs", "deployment/engine", "--container=engine").CombinedOutput()
	require.NoError(t, err, string(logs))
	assert.Equal(t, logLine, strings.TrimSpace(string(logs)))
}
