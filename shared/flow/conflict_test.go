// SPDX-License-Identifier: Apache-2.0

package flow_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"kaito.sh/shared/flow"
)

func TestRequeueConflict(t *testing.T) {
	t.Parallel()
	hour := reconcile.Result{RequeueAfter: time.Hour}
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "p", errors.New("changed"))

	result, err := flow.RequeueConflict(hour, fmt.Errorf("writing the status: %w", conflict))
	assert.NoError(t, err)
	assert.Equal(t, reconcile.Result{RequeueAfter: time.Second}, result)

	result, err = flow.RequeueConflict(hour, assert.AnError)
	assert.ErrorIs(t, err, assert.AnError)
	assert.Equal(t, hour, result)
}
