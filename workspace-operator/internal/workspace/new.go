// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/statushold"
	"kaito.sh/workspace-operator/internal/budget"
	"kaito.sh/workspace-operator/internal/gpubudget"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
)

// New returns a Reconciler. The error is an invalid option.
func New(c Config) (*Reconciler, error) {
	if err := c.Options.Validate(); err != nil {
		return nil, err
	}
	apis, err := c.Options.claimAPIs()
	if err != nil {
		return nil, err
	}
	c.setDefaults()
	o := c.Options
	claims := placement.Claims{Kinds: c.Kinds, APIs: apis}
	prices := budget.Prices{Catalog: c.Catalog, Region: o.Region}
	ledger := &gpubudget.Ledger{
		Cache: c.Client, Live: c.Live, Kinds: c.Kinds, Claims: claims, Prices: prices, Room: c.Room,
	}
	drift, memory := serving.NewDrift(), newPlanMemory()
	reservations := placement.NewReservations()
	holds := statushold.New[*kaitov1alpha1.WorkspaceStatus](c.Clock, o.StatusHold)
	plans := planner{catalog: c.Catalog, engine: c.Engine, prices: prices, registries: o.Registries, memory: memory}
	inputs := inputBuilder{
		engine: c.Engine, images: o.Images, registries: o.Registries, authorities: o.Authorities, modelHub: o.mirror(),
		canMountImages: o.canMountImages,
	}
	return &Reconciler{
		client: c.Client, clock: c.Clock, unconfirmed: c.Unconfirmed, holds: holds, room: c.Room,
		observer: observer{
			client: c.Client, kinds: c.Kinds, claims: claims, ledger: ledger, limits: o.Limits, allows: o.allowsNew,
		},
		configurer: configurer{texts: newConfigTexts(c.Client, c.Live)},
		stager:     stager{drift: drift},
		models:     modelFinder{models: c.Models},
		planner:    plans,
		secrets:    secretChecker{secrets: c.Secrets, recheck: o.SecretRecheck},
		placer: placer{
			client: c.Client, planner: plans, ledger: ledger, reservations: reservations, maxNodes: o.MaxNodes,
			preflight:   preflight{client: c.Client, inputs: inputs, recheck: o.RefusalRecheck},
			acknowledge: o.Limits.Acknowledge,
		},
		tuner: tuner{client: c.Client, acknowledge: o.Limits.Acknowledge, nameRecheck: o.SecretRecheck},
		server: server{
			client: c.Client, kinds: c.Kinds, inputs: inputs, nameRecheck: o.SecretRecheck,
			children: serving.Children{Client: c.Client, Drift: drift},
		},
		releaser: releaser{
			client: c.Client, live: c.Live, kinds: c.Kinds, claims: claims, holds: holds,
			forget: func(w *kaitov1alpha1.Workspace) {
				memory.forget(w.UID)
				holds.Forget(w.UID)
				reservations.Keep(w.UID, nil)
				drift.Forget(w.UID)
				c.Room.Forget(client.ObjectKeyFromObject(w))
			},
		},
		orphans: orphanCollector{client: c.Client, live: c.Live, claims: claims},
		status:  statusWriter{client: c.Client, events: c.Events, metrics: c.Metrics, holds: holds},
	}, nil
}

func (c *Config) setDefaults() {
	if c.Unconfirmed == nil {
		c.Unconfirmed = func(types.NamespacedName) time.Duration { return 0 }
	}
	if c.Room == nil {
		c.Room = gpubudget.NewRoom()
	}
}
