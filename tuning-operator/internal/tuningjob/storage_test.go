// SPDX-License-Identifier: Apache-2.0

package tuningjob_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/test/eventually"
)

func zero() *resource.Quantity { return resource.NewQuantity(0, resource.DecimalSI) }

// defaultStorageClass creates a default storage class without a provisioner for the duration of the test.
func defaultStorageClass(t *testing.T) string {
	t.Helper()
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "test-",
			Annotations:  map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner: "kubernetes.io/no-provisioner",
	}
	require.NoError(t, shared.client.Create(t.Context(), class))
	t.Cleanup(func() { assert.NoError(t, shared.client.Delete(context.Background(), class)) })
	return class.Name
}

// bind acts as a provisioner.
func bind(t *testing.T, pvc *corev1.PersistentVolumeClaim) {
	t.Helper()
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: pvc.Spec.AccessModes,
			StorageClassName: *pvc.Spec.StorageClassName, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/simulated"}},
			ClaimRef:               &corev1.ObjectReference{Namespace: pvc.Namespace, Name: pvc.Name, UID: pvc.UID},
		},
	}
	require.NoError(t, shared.client.Create(t.Context(), pv))
	t.Cleanup(func() { assert.NoError(t, client.IgnoreNotFound(shared.client.Delete(context.Background(), pv))) })
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NoError(c, shared.client.Get(t.Context(), client.ObjectKeyFromObject(pvc), pvc))
		assert.Equal(c, corev1.ClaimBound, pvc.Status.Phase)
	}, eventually.Long, eventually.Tick)
}
