// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// conflictDelay is the time after which a pass that met a conflict is repeated. The event of the newer object usually
// arrives sooner.
const conflictDelay = time.Second

// RequeueConflict returns result and err of a pass, with a conflict replaced by another pass after a second.
//
// This is how all reconcilers treat a conflict, on a status write as on any other write. A conflict means that the pass
// has read an object that was changed since. It is not a failure: the pass is repeated with the newer object, and
// nothing is logged or counted as an error.
func RequeueConflict(result reconcile.Result, err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: conflictDelay}, nil
	}
	return result, err
}
