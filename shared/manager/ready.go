// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

// syncGrace is how long a probe waits for the caches; a probe's own timeout is a second by default.
const syncGrace = 500 * time.Millisecond

var errNotSynced = errors.New("caches have not synced yet: see the log for a kind that cannot be listed")

// cachesSynced is ready when every informer that was started has listed once.
func cachesSynced(c cache.Cache) healthz.Checker {
	return func(req *http.Request) error {
		ctx, cancel := context.WithTimeout(req.Context(), syncGrace)
		defer cancel()
		if !c.WaitForCacheSync(ctx) {
			return errNotSynced
		}
		return nil
	}
}
