// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
)

// RestartAPIServer has the API server end as by a crash, every watch and every request under way with it, and scheduler
// and controller manager as well, as they do where one machine has all three. It waits until a new one serves at the
// same address. What was stored stays, and the audit log goes on.
//
// A controller manager that outlives the API server may collect no garbage of what was deleted and made again by the
// same name meanwhile: its informers take that for an update, and the dependents of the one that is gone stay for good.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	if c.apiServer == nil {
		return fmt.Errorf("restarting the API server: the cluster %s is not ours", c.server)
	}
	if err := c.apiServer.process.Kill(); err != nil {
		return fmt.Errorf("restarting the API server: %w", err)
	}
	c.layers[apiServerLayer] = nil // it has ended, and is meant to have
	if len(c.layers) > workLayer {
		for _, p := range c.layers[workLayer] {
			if p.Name() == "kwok" { // runs where the nodes are
				continue
			}
			if err := p.Kill(); err != nil {
				return fmt.Errorf("restarting %s: %w", p.Name(), err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := c.runAPIServer(ctx, c.apiServer.arguments); err != nil {
		return err
	}
	_, err := c.Revive()
	return err
}

// workLayer has what works on the API: scheduler, controller manager, KWOK.
const workLayer = apiServerLayer + 1

// Revive starts again what works on the API and has ended by itself, as a kubelet does with static pods, and names it.
// kube-scheduler ends itself when pods are not where it has put them, which is what it sees after an API server that
// crashed between a bind and its answer.
func (c *Cluster) Revive() (revived []string, err error) {
	if len(c.layers) <= workLayer {
		return nil, nil
	}
	for i, p := range c.layers[workLayer] {
		if p.Died() == nil {
			continue
		}
		if c.layers[workLayer][i], err = c.launcher.Start(p.Spec()); err != nil {
			c.layers[workLayer][i] = p
			return revived, fmt.Errorf("reviving %s: %w", p.Name(), err)
		}
		revived = append(revived, p.Name())
	}
	return revived, nil
}
