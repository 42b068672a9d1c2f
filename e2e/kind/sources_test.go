// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/e2e/authority"
	"kaito.sh/e2e/sources"
)

const (
	// hubName is the one that the quick start's file fetches from; the cluster's DNS answers it with the hub that is here.
	hubName      = "huggingface.co"
	registryName = "registry.example.com"
	registryPort = "30543"
	sourcesSpace = "sources"
	// authorities is the ConfigMap of the tuning-operator's flag.
	authorities = "authorities"
	pushSecret  = "registry-login"
)

var login = sources.Login{User: "pusher", Password: "only-here"}

// startSources runs hub and registry in the cluster, and makes them known by name to pods and kubelets.
func (w *world) startSources(t *testing.T) {
	t.Helper()
	node, err := w.kind.NodeIP()
	require.NoError(t, err)
	dir := t.TempDir()
	ours, err := authority.Open(dir)
	require.NoError(t, err)
	server, err := ours.Server([]string{hubName, registryName}, node)
	require.NoError(t, err)
	certificate, key, err := authority.Encode(server)
	require.NoError(t, err)
	w.trusted, err = os.ReadFile(filepath.Join(dir, authority.File))
	require.NoError(t, err)

	w.namespace(t, sourcesSpace, "restricted")
	require.NoError(t, w.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "sources-tls", Namespace: sourcesSpace}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key},
	}))
	w.kubectl(t, "apply", "--server-side", "-k", "config/sources")
	w.registry = net.JoinHostPort(node.String(), registryPort)
	require.NoError(t, w.kind.Registry(registryName, w.registry, w.trusted))
	w.answerNames(t, map[string]string{hubName: "hub", registryName: "registry"})
	w.available(t, sourcesSpace, "sources")
}

// answerNames has the cluster's DNS answer names with Services of the sources.
func (w *world) answerNames(t *testing.T, services map[string]string) {
	t.Helper()
	var hosts strings.Builder
	for host, name := range services {
		service := &corev1.Service{}
		require.NoError(t, w.client.Get(t.Context(), client.ObjectKey{Namespace: sourcesSpace, Name: name}, service))
		fmt.Fprintf(&hosts, "        %s %s\n", service.Spec.ClusterIP, host)
	}
	dns := &corev1.ConfigMap{}
	require.NoError(
		t, w.client.Get(t.Context(), client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "coredns"}, dns),
	)
	const block = ".:53 {\n"
	require.Contains(t, dns.Data["Corefile"], block)
	dns.Data["Corefile"] = strings.Replace(
		dns.Data["Corefile"], block, block+"    hosts {\n"+hosts.String()+"        fallthrough\n    }\n", 1,
	)
	require.NoError(t, w.client.Update(t.Context(), dns))
	w.kubectl(t, "rollout", "restart", "deployment/coredns", "--namespace", metav1.NamespaceSystem)
	w.kubectl(
		t, "rollout", "status", "deployment/coredns", "--namespace", metav1.NamespaceSystem, "--timeout", installed.String(),
	)
}

// admit gives a namespace what pods need to use the sources.
func (w *world) admit(t *testing.T, namespace string) {
	t.Helper()
	require.NoError(t, w.client.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name:      authorities,
			Namespace: namespace,
		},
		Data: map[string]string{"ca.crt": string(w.trusted)},
	}))
	require.NoError(t, w.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: pushSecret, Namespace: namespace}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: login.DockerConfig(registryName)},
	}))
}

func (w *world) namespace(t *testing.T, name, standard string) {
	t.Helper()
	require.NoError(t, w.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{"pod-security.kubernetes.io/enforce": standard},
	}}))
}

// available waits for a Deployment.
func (w *world) available(t *testing.T, namespace, name string) {
	t.Helper()
	deployment := &appsv1.Deployment{}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, w.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, deployment))
		assert.Positive(c, deployment.Status.AvailableReplicas, "%s: %v", name, deployment.Status.Conditions)
	}, installed, look)
}

// ask has a pod of the namespace post the quick start's request to the Service's cluster IP, and returns what it was
// answered.
func (w *world) ask(t *testing.T, name, prompt string) string {
	t.Helper()
	service := &corev1.Service{}
	require.NoError(
		t, w.client.Get(t.Context(), client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: name}, service),
	)
	pod := clientPod("http://"+service.Spec.ClusterIP+"/chat", prompt)
	require.NoError(t, w.client.Create(t.Context(), pod))
	defer func() {
		assert.NoError(t, w.client.Delete(context.WithoutCancel(t.Context()), pod, client.GracePeriodSeconds(0)))
	}()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, w.client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
		assert.Contains(c, []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed}, pod.Status.Phase)
	}, served, look)
	out, err := w.kubernetes.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	require.NoError(t, err)
	require.Equal(t, corev1.PodSucceeded, pod.Status.Phase, string(out))
	return strings.TrimSpace(string(out))
}

func clientPod(url, prompt string) *corev1.Pod {
	yes, no := true, false
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "client-",
			Namespace:    metav1.NamespaceDefault,
			Labels:       map[string]string{"app": "client"},
		},
		Spec: corev1.PodSpec{
			RestartPolicy:                corev1.RestartPolicyNever,
			AutomountServiceAccountToken: &no,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot:   &yes,
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{
				{
					Name:            "ask",
					Image:           "ask:dev",
					ImagePullPolicy: corev1.PullIfNotPresent,
					Args:            []string{url, prompt},
					SecurityContext: &corev1.SecurityContext{
						AllowPrivilegeEscalation: &no,
						ReadOnlyRootFilesystem:   &yes,
						Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
					},
				},
			},
			ActiveDeadlineSeconds: new(int64(served / time.Second)),
		},
	}
}
