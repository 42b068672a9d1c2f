// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

type diagnosed []struct{ Grade, Check, Text, Remedy string }

func (d diagnosed) has(t assert.TestingT, grade, text string) {
	for _, one := range d {
		if one.Grade == grade && strings.Contains(one.Text, text) {
			if grade != "ok" {
				assert.NotEmpty(t, one.Remedy, "%s says what to do", one.Text)
			}
			return
		}
	}
	assert.Fail(t, "no such line", "%s %q in %v", grade, text, d)
}

func doctor(t *testing.T, kubeconfig, namespace string) (result, diagnosed) {
	t.Helper()
	r := start(t, nil, "doctor", "-o", "json", "--kubeconfig", kubeconfig, "-n", namespace).wait()
	var out diagnosed
	require.NoError(t, json.Unmarshal([]byte(r.out), &out), r.out+r.errOut)
	return r, out
}

// operatorDeployment is one as config/default installs it, run by KWOK.
func operatorDeployment(namespace, name string) *appsv1.Deployment {
	labels := map[string]string{"app.kubernetes.io/name": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name + "-controller-manager", Namespace: namespace, Labels: labels},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{
				Containers:   []corev1.Container{{Name: "manager", Image: "example.com/" + name + ":1"}},
				NodeSelector: map[string]string{"doctor": "node"},
			},
		}},
	}
}

func lease(namespace, operator string, renewed time.Time) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: operator + ".kaito.sh", Namespace: namespace},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:       ptr.To("pod_1"),
			LeaseDurationSeconds: ptr.To[int32](15),
			RenewTime:            &metav1.MicroTime{Time: renewed},
		},
	}
}

// The checks look at the whole cluster, so what one finds is set up here step by step, and nowhere else.
func TestDoctorSaysWhatTheClusterLacksAndWhatToDo(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)

	r, bare := doctor(t, shared.kubeconfig, namespace)
	assert.Equal(t, 1, r.code, "no operator is installed as a Deployment")
	bare.has(t, "ok", "Workspaces are served as kaito.sh/v1alpha1")
	bare.has(t, "ok", "Workspaces are served as kaito.sh/v1beta1")
	bare.has(t, "ok", "requested as Machines and NodeClaims")
	bare.has(t, "fail", "app.kubernetes.io/name=workspace-operator")
	bare.has(t, "warn", "app.kubernetes.io/name=tuning-operator")
	bare.has(t, "warn", "no nodes are created")
	bare.has(t, "ok", "all 9 permissions that these commands")

	join(t, "doctor-"+namespace, map[string]string{"doctor": "node"}, nil)
	for _, name := range []string{"workspace-operator", "tuning-operator", "gpu-provisioner"} {
		create(t, operatorDeployment(namespace, name))
	}
	stale := lease(namespace, "tuning-operator", time.Now().Add(-time.Hour))
	create(
		t, stale, lease(namespace, "workspace-operator", time.Now().Add(time.Hour)),
		lease(namespace, "gpu-provisioner", time.Now().Add(time.Hour)),
	)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, got := doctor(t, shared.kubeconfig, namespace)
		got.has(c, "ok", "workspace-operator runs: "+namespace)
	}, eventually.Long, eventually.Tick)
	r, installed := doctor(t, shared.kubeconfig, namespace)
	assert.Equal(t, 1, r.code)
	installed.has(t, "ok", "pod_1 holds the lease "+namespace+"/workspace-operator.kaito.sh")
	installed.has(t, "fail", "the lease "+namespace+"/tuning-operator.kaito.sh was renewed 60m ago by pod_1")
	installed.has(t, "fail", "there is no KaitoNodeClass")
	installed.has(t, "ok", "GPU")

	broken := join(t, "broken-"+namespace, map[string]string{"kubernetes.azure.com/accelerator": "nvidia"}, nil)
	before := broken.DeepCopy()
	delete(broken.Status.Allocatable, "nvidia.com/gpu")
	require.NoError(t, shared.client.Status().Patch(t.Context(), broken, client.MergeFrom(before)))
	_, got := doctor(t, shared.kubeconfig, namespace)
	got.has(t, "fail", broken.Name) // beside nodes of other tests that have just joined

	text := online(t, namespace, "doctor")
	assert.Equal(t, 1, text.code)
	assert.Regexp(t, `(?m)^fail GPUs +.* no allocatable GPUs: .*broken-.*\n +→ check the device plugin`, text.out)
	assert.Regexp(t, `(?m)^\d+ ok, \d+ warn, \d+ fail$`, text.out)
}

func TestDoctorSaysWhatAUserMayNotDo(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	config, err := shared.cluster.ServiceAccountKubeconfig(t.Context(), namespace, "default")
	require.NoError(t, err)
	_, got := doctor(t, config, namespace)
	got.has(t, "warn", "you may not create workspaces in namespace "+namespace)
	got.has(t, "warn", "you may not create pods/portforward in namespace "+namespace+": kubectl kaito chat will not work")
	got.has(t, "warn", "Deployments of all namespaces cannot be read")
}

func TestDoctorFailsWhereNothingIsInstalled(t *testing.T) {
	t.Parallel()
	bare := cluster.ForTest(t, cluster.Options{})
	r, got := doctor(t, bare.Kubeconfig(), "default")
	assert.Equal(t, 1, r.code)
	got.has(t, "fail", "Workspaces are not served")
	got.has(t, "fail", "neither Machines")
	got.has(t, "warn", "TuningJobs are not served")
	status := start(t, nil, "status", "--kubeconfig", bare.Kubeconfig()).wait()
	assert.Equal(t, 2, status.code)
	assert.Contains(t, status.errOut, "install the workspace-operator")
}
