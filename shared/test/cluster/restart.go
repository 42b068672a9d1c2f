package cluster

import (
	"context"
	"fmt"
)

// RestartAPIServer has the API server end as by a crash, every watch and every request under way with it, and waits until a new one serves at
// the same address. What was stored stays, and the audit log goes on.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	if c.apiServer == nil {
		return fmt.Errorf("restarting the API server: the cluster %s is not ours", c.server)
	}
	if err := c.apiServer.process.Kill(); err != nil {
		return fmt.Errorf("restarting the API server: %w", err)
	}
	c.layers[apiServerLayer] = nil // it has ended, and is meant to have
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return c.runAPIServer(ctx, c.apiServer.arguments)
}
