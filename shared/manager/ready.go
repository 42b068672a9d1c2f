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

// syncGrace is the time that a probe waits for the caches. The default timeout of a probe is one second.
const syncGrace = 500 * time.Millisecond

var errNotSynced = errors.New("caches have not synced yet: see the log for a kind that cannot be listed")

// cachesSynced returns a check that succeeds when every started informer has listed its objects.
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
