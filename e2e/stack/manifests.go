// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/test/eventually"
)

// manifests are what a kustomization builds, apart from the Deployment: what a user's `kubectl apply -k` would send.
type manifests struct {
	objects    []*unstructured.Unstructured
	deployment *appsv1.Deployment
}

// Kustomize builds the folder under the repository's root: what `kubectl apply -k` would send.
func Kustomize(ctx context.Context, root, folder string) ([]*unstructured.Unstructured, error) {
	var out, errOut bytes.Buffer
	build := exec.CommandContext(ctx, filepath.Join(root, "bin", "kustomize"), "build", filepath.Join(root, folder))
	build.Stdout, build.Stderr = &out, &errOut
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("building %s (is bin/kustomize there? `make tools`): %w: %s", folder, err, errOut.String())
	}
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(&out, 4096)
	for {
		u := &unstructured.Unstructured{}
		if err := decoder.Decode(&u.Object); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading the manifests of %s: %w", folder, err)
		}
		if len(u.Object) > 0 {
			objects = append(objects, u)
		}
	}
}

func kustomize(ctx context.Context, root, folder string) (manifests, error) {
	var m manifests
	objects, err := Kustomize(ctx, root, folder)
	if err != nil {
		return m, err
	}
	for _, u := range objects {
		if u.GetKind() != "Deployment" {
			m.objects = append(m.objects, u)
			continue
		}
		m.deployment = &appsv1.Deployment{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, m.deployment); err != nil {
			return m, fmt.Errorf("reading the Deployment %s: %w", u.GetName(), err)
		}
	}
	return m, nil
}

// apply sends the objects in order by server-side apply and waits for their CRDs to be served.
func (m manifests) apply(ctx context.Context, c client.Client) error {
	for _, u := range m.objects {
		if err := c.Apply(
			ctx, client.ApplyConfigurationFromUnstructured(u.DeepCopy()), client.FieldOwner("kubectl"), client.ForceOwnership,
		); err != nil {
			return fmt.Errorf("applying %s %s: %w", u.GetKind(), u.GetName(), err)
		}
	}
	for _, u := range m.objects {
		if u.GetKind() == "CustomResourceDefinition" {
			if err := established(ctx, c, u.GetName()); err != nil {
				return err
			}
		}
	}
	return nil
}

func established(ctx context.Context, c client.Client, name string) error {
	err := wait.PollUntilContextTimeout(
		ctx,
		eventually.StoryTick,
		eventually.Short,
		true,
		func(ctx context.Context) (bool, error) {
			crd := &apiextensionsv1.CustomResourceDefinition{}
			if err := c.Get(ctx, client.ObjectKey{Name: name}, crd); err != nil {
				return false, err
			}
			for _, condition := range crd.Status.Conditions {
				if condition.Type == apiextensionsv1.NonStructuralSchema && condition.Status == apiextensionsv1.ConditionTrue {
					return false, fmt.Errorf("CRD %s: %s", name, condition.Message)
				}
				if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
					return true, nil
				}
			}
			return false, nil
		},
	)
	if err != nil {
		return fmt.Errorf("waiting for CRD %s to be served: %w", name, err)
	}
	return nil
}

// account is the namespace and the service account that the operator's pods run with.
func (m manifests) account() (namespace, name string) {
	return m.deployment.Namespace, m.deployment.Spec.Template.Spec.ServiceAccountName
}

// container is the operator's own in its Deployment.
func (m manifests) container() (*corev1.Container, error) {
	if m.deployment == nil || len(m.deployment.Spec.Template.Spec.Containers) == 0 {
		return nil, errors.New("the kustomization has no Deployment with a container")
	}
	return &m.deployment.Spec.Template.Spec.Containers[0], nil
}
