// SPDX-License-Identifier: Apache-2.0

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

// Refusals creates the pods of all workloads in a folder of manifests (golden files) as a dry run, in a new namespace
// that enforces the restricted standard. It returns the API server's refusal by file name, empty if it accepts the pod.
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
		text, err := os.ReadFile(file) //nolint:gosec // in the repository
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
	// Without controllers the service account does not exist, which a pod with a mounted token needs.
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
