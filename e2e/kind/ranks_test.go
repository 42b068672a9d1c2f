// SPDX-License-Identifier: Apache-2.0

package kind

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const engineContainer = "engine"

// rank reads the pod of a rank.
func (w *world) rank(t require.TestingT, workspace string, number int) *corev1.Pod {
	pod := &corev1.Pod{}
	key := client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: fmt.Sprintf("%s-%d", workspace, number)}
	require.NoError(t, w.client.Get(context.Background(), key, pod))
	return pod
}

// engine is the state of a pod's engine.
func engine(pod *corev1.Pod) corev1.ContainerStatus {
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == engineContainer {
			return s
		}
	}
	return corev1.ContainerStatus{}
}

// ranksRestart deletes the pod of each of two ranks in turn. The other engine is started again in its pod, and the
// server answers.
func (w *world) ranksRestart(t *testing.T, workspace string) {
	t.Helper()
	for number := range 2 {
		lost, other := w.rank(t, workspace, number), w.rank(t, workspace, 1-number)
		require.NoError(t, w.client.Delete(t.Context(), lost, client.GracePeriodSeconds(0)))
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			again, kept := w.rank(c, workspace, number), w.rank(c, workspace, 1-number)
			assert.NotEqual(c, lost.UID, again.UID)
			assert.NotNil(c, engine(again).State.Running)
			assert.Equal(c, other.UID, kept.UID)
			assert.Equal(c, engine(other).RestartCount+1, engine(kept).RestartCount)
			assert.NotNil(c, engine(kept).State.Running)
		}, replaced, look)
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			log, err := w.kubernetes.CoreV1().Pods(metav1.NamespaceDefault).GetLogs(
				workspace+"-0", &corev1.PodLogOptions{Container: engineContainer},
			).DoRaw(t.Context())
			require.NoError(c, err)
			assert.Contains(c, string(log), "serving "+workspace)
		}, served, look)
		w.ready(t, workspace, served)
		assert.Contains(t, w.ask(t, workspace, "Are you back?"), "Are you back?")
	}
}
