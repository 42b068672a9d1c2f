// SPDX-License-Identifier: Apache-2.0

// Command gpu-provisioner creates GPU nodes in AKS agent pools for Machines and NodeClaims.
package main

import (
	"context"
	"fmt"
	"os"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"kaito.sh/gpu-provisioner/internal/operator"
	"kaito.sh/gpu-provisioner/internal/scheme"
	"kaito.sh/shared/manager"
	// +kubebuilder:scaffold:imports
)

func main() {
	os.Exit(run())
}

func run() int {
	kinds, err := scheme.New()
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", operator.Name, err)
		return 1
	}
	// +kubebuilder:scaffold:scheme
	options := operator.DefaultOptions()
	return manager.Main(manager.Options{
		Name:   operator.Name,
		Short:  "Creates GPU nodes in AKS agent pools for Machines and NodeClaims.",
		Scheme: kinds,
		Flags:  options.AddFlags,
		Setup: func(ctx context.Context, mgr ctrl.Manager) error {
			// +kubebuilder:scaffold:builder
			return operator.Setup(ctx, mgr, metrics.Registry, options)
		},
	})
}
