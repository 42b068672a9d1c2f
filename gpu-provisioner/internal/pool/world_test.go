// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/azure/azuretest"
)

// world builds a State. Its claims are an hour old, so that they are not gathered.
type world struct{ State }

func newWorld() *world {
	return &world{
		State{
			Now: start,
			View: azure.View{
				At:       start,
				Oldest:   start,
				Complete: true,
				Cluster:  azure.Cluster{PowerState: "Running", Location: "eastus"},
			},
			Operations: map[string]Operation{},
			Holds:      map[string]Hold{},
			Sightings:  map[string]Sighting{},
			MaxPerPool: func(string) int { return 100 },
			Settings: Settings{
				Gather: time.Second, Patience: 2 * time.Minute, Grace: time.Minute, OperationTimeout: 20 * time.Minute,
				JoinTimeout: 10 * time.Minute, MaxPools: 100,
			},
		},
	}
}

func machineID(pool string, n int) string { return azuretest.ProviderID(pool, n) }

func (w *world) pool(key string, ordinal, count int, machines ...int) *azure.Pool {
	p := azure.Pool{
		Name: Name(key, ordinal), State: azure.StateSucceeded, Count: count, MachinesAt: w.View.At,
		Tags: map[string]string{azure.TagManagedBy: azure.ManagedByValue, azure.TagPoolKey: key},
	}
	for _, n := range machines {
		p.Machines = append(p.Machines, azure.Machine{Name: fmt.Sprintf("m%d", n), ProviderID: machineID(p.Name, n)})
	}
	w.View.Pools = append(w.View.Pools, p)
	return &w.View.Pools[len(w.View.Pools)-1]
}

func (w *world) waiting(name, key string) *Claim {
	w.Claims = append(
		w.Claims, Claim{Name: name, UID: name, Created: start.Add(-time.Hour), Keys: []string{key}, Target: key},
	)
	return &w.Claims[len(w.Claims)-1]
}

func (w *world) bound(name, providerID string) *Claim {
	w.Claims = append(
		w.Claims,
		Claim{
			Name:       name,
			UID:        name,
			Created:    start.Add(-time.Hour),
			ProviderID: providerID,
			Bound:      start.Add(-time.Hour),
			Registered: true,
		},
	)
	return &w.Claims[len(w.Claims)-1]
}

// decide returns the actions without the Waits.
func (w *world) decide() []Action {
	var out []Action
	for _, a := range Decide(w.State).Actions {
		if _, ok := a.(Wait); !ok {
			out = append(out, a)
		}
	}
	return out
}

// again moves the clock by a minute and the view with it.
func (w *world) again(d Decision) {
	w.Sightings = d.Sightings
	w.Now = w.Now.Add(time.Minute)
	w.View.At, w.View.Oldest = w.Now, w.Now
	for i := range w.View.Pools {
		w.View.Pools[i].MachinesAt = w.Now
	}
}

func (w *world) waits() map[string]Wait {
	out := map[string]Wait{}
	for _, a := range Decide(w.State).Actions {
		if x, ok := a.(Wait); ok {
			out[x.Claim] = x
		}
	}
	return out
}
