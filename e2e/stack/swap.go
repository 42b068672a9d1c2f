// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/test/eventually"
)

// InstallFrom is Install with another kustomization than the operator's config/default: an overlay of it, in a folder
// below the repository's root.
func (s *Stack) InstallFrom(ctx context.Context, o Operator, folder string) error {
	m, err := s.applyFolder(ctx, folder)
	if err != nil {
		return fmt.Errorf("installing %s: %w", o, err)
	}
	s.installed[o] = m
	if o == GPUProvisioner {
		return s.writeAzureConfig(ctx)
	}
	return nil
}

// InstallCRDs installs the operator's kinds and nothing that serves them.
func (s *Stack) InstallCRDs(ctx context.Context, o Operator) error {
	if _, err := s.applyFolder(ctx, filepath.Join(string(o), "config", "crd")); err != nil {
		return fmt.Errorf("installing the kinds of %s: %w", o, err)
	}
	return nil
}

// labelUninstall, with the value keep, is on what outlives an operator: docs/uninstall.md.
const labelUninstall = "kaito.sh/uninstall"

func keeps(u *unstructured.Unstructured) bool { return u.GetLabels()[labelUninstall] == "keep" }

func (s *Stack) applyFolder(ctx context.Context, folder string) (manifests, error) {
	m, err := kustomize(ctx, s.options.Root, folder)
	if err != nil {
		return m, err
	}
	if err := s.claim(ctx, m); err != nil {
		return m, err
	}
	return m, m.apply(ctx, s.Client)
}

// Uninstall stops the operator and removes what was installed for it, its namespace and all that is in there among it.
// Its kinds stay: what users have made of them would go with them.
func (s *Stack) Uninstall(ctx context.Context, o Operator) error {
	if err := s.StopOperator(o); err != nil {
		return err
	}
	m := s.installed[o]
	delete(s.installed, o)
	for _, u := range slices.Backward(m.objects) {
		if keeps(u) {
			continue
		}
		err := s.Client.Delete(ctx, u.DeepCopy(), client.PropagationPolicy("Background"))
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("removing %s %s: %w", u.GetKind(), u.GetName(), err)
		}
	}
	err := wait.PollUntilContextTimeout(
		ctx,
		eventually.StoryTick,
		eventually.Long,
		true,
		func(ctx context.Context) (bool, error) {
			for _, u := range m.objects {
				if keeps(u) {
					continue
				}
				err := s.Client.Get(ctx, client.ObjectKeyFromObject(u), u.DeepCopy())
				if !apierrors.IsNotFound(err) && !meta.IsNoMatchError(err) {
					return false, err
				}
			}
			return true, nil
		},
	)
	if err != nil {
		return fmt.Errorf("waiting for what belongs to %s to be removed: %w", o, err)
	}
	return nil
}
