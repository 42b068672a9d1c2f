// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/metric"
	"kaito.sh/gpu-provisioner/internal/pool"
	"kaito.sh/shared/catalog"
)

// Name is the operator's name in leases, logs and events.
const Name = "gpu-provisioner"

// Setup connects the operator to Azure and adds it to the manager.
func Setup(ctx context.Context, mgr ctrl.Manager, registry prometheus.Registerer, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	config, err := azure.LoadConfig(o.AzureConfig, os.Getenv)
	if err != nil {
		return err
	}
	namespace, err := o.namespace()
	if err != nil {
		return err
	}
	loaded, err := catalog.Load()
	if err != nil {
		return fmt.Errorf("loading the catalogue of VM sizes: %w", err)
	}
	clk, registerer := clock.RealClock{}, metric.Registerer(registry)
	arm, err := azure.NewARM(config, azure.NewLimits(clk, o.AzureCallRate), azure.NewMetrics(registerer))
	if err != nil {
		return err
	}
	uid, err := clusterUID(ctx, mgr.GetAPIReader())
	if err != nil {
		return err
	}
	arm.Serve(uid)
	composed := Compose(Deps{
		Options: o, Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Writer: mgr.GetClient(), Namespace: namespace,
		Azure: arm, Catalog: loaded, Events: mgr.GetEventRecorder(Name),
		KarpenterEvents: mgr.GetEventRecorderFor("karpenter"), //nolint:staticcheck // Karpenter needs the older API
		Metrics:         registerer, Clock: clk,
	})
	if err := addIdentity(mgr, arm.Identity(clk), composed.Engine); err != nil {
		return err
	}
	return composed.SetupWithManager(ctx, mgr)
}

// addIdentity makes /readyz fail while the identity cannot be used. When it can be used again, the engine retries.
func addIdentity(mgr ctrl.Manager, identity *azure.Identity, engine *pool.Engine) error {
	identity.OnRecovered(engine.Retry)
	if err := mgr.Add(identity); err != nil {
		return fmt.Errorf("adding the check of the identity: %w", err)
	}
	if err := mgr.AddReadyzCheck("identity", identity.Ready); err != nil {
		return fmt.Errorf("adding the identity to /readyz: %w", err)
	}
	return nil
}
