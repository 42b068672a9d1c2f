// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	"kaito.sh/e2e/kindcluster"
	"kaito.sh/e2e/stack"
)

// kindName is the demo's kind cluster.
const kindName = "kaito-demo"

// onKind makes a kind cluster, shows the main job on it, and deletes it.
func (d *demo) onKind(ctx context.Context) (err error) {
	d.title("Making the kind cluster " + kindName)
	started := time.Now()
	c, err := kindcluster.Start(ctx, kindcluster.Options{Name: kindName, Image: d.kindest, Log: indent{d.out}})
	if err != nil {
		return err
	}
	defer func() {
		d.line("deleting the kind cluster")
		err = errors.Join(err, c.Stop())
	}()
	d.line("there after %.1f s", time.Since(started).Seconds())
	return d.on(ctx, &stack.Existing{Kubeconfig: c.Kubeconfig()})
}
