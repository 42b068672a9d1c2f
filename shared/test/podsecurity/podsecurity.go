// SPDX-License-Identifier: Apache-2.0

// Package podsecurity asks a real API server what the Pod Security Standards have against an operator's pods.
package podsecurity

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// Refusals tries the pods of every workload in a folder's manifests (golden files) in a namespace of their own that
// enforces the restricted standard, as a dry run. It returns by the file's name what the API server says, empty where
// it takes the pod.
func Refusals(ctx context.Context, c client.Client, folder string) (map[string]string, error) {
	namespace := &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "restricted-",
			Labels:       map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
		},
	}
	if err := c.Create(ctx, namespace); err != nil {
		return nil, fmt.Errorf("creating the namespace: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("listing manifests: %w", err)
	}
	out := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // of the repository
		if err != nil {
			return nil, fmt.Errorf("reading a manifest: %w", err)
		}
		for document := range strings.SplitSeq(string(text), "---\n") {
			var workload struct {
				Spec struct {
					Template *corev1.PodTemplateSpec `json:"template"`
				} `json:"spec"`
			}
			if err := yaml.Unmarshal([]byte(document), &workload); err != nil {
				return nil, fmt.Errorf("reading %s: %w", file, err)
			}
			if workload.Spec.Template == nil {
				continue
			}
			if out[filepath.Base(file)], err = try(ctx, c, namespace.Name, workload.Spec.Template); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return out, nil
}

func try(ctx context.Context, c client.Client, namespace string, template *corev1.PodTemplateSpec) (string, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-", Namespace: namespace, Labels: template.Labels},
		Spec:       template.Spec,
	}
	// Where no controllers run nobody makes the account; a pod with its token mounted needs it to be there.
	no := false
	pod.Spec.AutomountServiceAccountToken = &no
	err := c.Create(ctx, pod, client.DryRunAll)
	switch {
	case err == nil:
		return "", nil
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "violates PodSecurity"):
		return err.Error(), nil
	}
	return "", err
}
