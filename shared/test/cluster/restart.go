// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
)

// RestartAPIServer kills the API server, with all watches and requests, and the scheduler and the controller manager,
// as in a crash of a machine with all three. It waits until a new API server serves at the same address. Stored objects
// stay, and the audit log is continued.
//
// The controller manager must restart too. Otherwise its informers would treat an object that was meanwhile deleted and
// recreated as updated, and the dependents of the deleted object would never be garbage collected.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	if c.apiServer == nil {
		return fmt.Errorf("restarting the API server: the cluster %s is not ours", c.server)
	}
	if err := c.apiServer.process.Kill(); err != nil {
		return fmt.Errorf("restarting the API server: %w", err)
	}
	c.layers[apiServerLayer] = nil // it has ended as intended
	if len(c.layers) > workLayer {
		for _, p := range c.layers[workLayer] {
			if p.Name() == "kwok" { // runs on the machine of the nodes
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

// workLayer has the clients of the API server: scheduler, controller manager, KWOK.
const workLayer = apiServerLayer + 1

// Revive restarts ended clients of the API server, as a kubelet does with static pods, and returns their names.
// kube-scheduler exits when a pod is not on the node that it chose, which happens if the API server crashes between a
// bind and its answer.
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
