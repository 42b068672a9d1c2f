// SPDX-License-Identifier: Apache-2.0

package fakeazure_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/fakeazure"
	"kaito.sh/shared/test/eventually"
)

func TestOnAnswerGetsStatusAndRetryAfter(t *testing.T) {
	var mu sync.Mutex
	var answers []fakeazure.Answer
	a := newAzure(t, func(o *fakeazure.Options) {
		o.OnAnswer = func(answer fakeazure.Answer) {
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, answer)
		}
	})
	a.server.AddFault(
		fakeazure.Fault{
			Verb:  "getCluster",
			Skip:  1,
			Times: 1,
			Error: &fakeazure.Failure{HTTP: http.StatusTooManyRequests, Code: "Throttled", RetryAfter: 7},
		},
	)
	a.server.AddFault(fakeazure.Fault{Verb: "putPool", Times: 1, Drop: fakeazure.DropAfter})
	_, err := a.clusters.Get(t.Context(), a.group(), a.name(), nil)
	require.NoError(t, err)
	_, err = a.clusters.Get(t.Context(), a.group(), a.name(), nil)
	require.Error(t, err)
	_, err = a.beginPut("gpu1", gpuPool(a100, 1))
	require.Error(t, err)
	require.Eventually(
		t, func() bool { mu.Lock(); defer mu.Unlock(); return len(answers) == 3 }, eventually.Short, eventually.Tick,
	)
	for i, want := range []struct {
		verb               string
		status, retryAfter int
	}{{"getCluster", 200, 0}, {"getCluster", 429, 7}, {"putPool", 0, 0}} {
		assert.Equal(t, want.verb, answers[i].Verb)
		assert.Equal(t, want.status, answers[i].Status, "call %d", i+1)
		assert.Equal(t, want.retryAfter, answers[i].RetryAfter)
		assert.Equal(t, start, answers[i].At)
	}
}
