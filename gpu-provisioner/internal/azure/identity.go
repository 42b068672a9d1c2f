// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

const (
	// identityEvery is the interval of requests for a token. While a token is valid, the SDK answers from its cache.
	identityEvery = time.Minute
	// identityRetry is the interval while the identity cannot be used.
	identityRetry = 10 * time.Second
	// identityTimeout limits one request for a token.
	identityTimeout = 30 * time.Second
)

// errUnchecked is the result of /readyz before the first request for a token.
var errUnchecked = errors.New("no token has been requested yet")

// Identity checks whether Entra issues tokens for the configured identity, and whether ARM lets it read the cluster. It
// runs in all replicas, not only the leader, so that a rollout stops if the identity is not set up.
type Identity struct {
	credential azcore.TokenCredential
	scope      string
	clock      clock.Clock
	metrics    *Metrics

	mu        sync.Mutex
	tokens    error // why Entra issues none
	reads     error // why ARM does not allow reads of the cluster
	recovered func()
}

func newIdentity(credential azcore.TokenCredential, scope string, metrics *Metrics) *Identity {
	return &Identity{credential: credential, scope: scope, metrics: metrics, tokens: errUnchecked, recovered: func() {}}
}

// OnRecovered sets the function that is called when the identity can be used again. Call it before Start.
func (i *Identity) OnRecovered(f func()) { i.recovered = f }

// NeedLeaderElection returns false: all replicas check the identity.
func (i *Identity) NeedLeaderElection() bool { return false }

// Start requests tokens until ctx ends.
func (i *Identity) Start(ctx context.Context) error {
	for {
		every := identityEvery
		if !i.checkTokens(ctx) {
			every = identityRetry
		}
		timer := i.clock.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C():
		}
	}
}

// Ready is the check of /readyz. /readyz/identity shows its error.
func (i *Identity) Ready(*http.Request) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return errors.Join(i.tokens, i.reads)
}

// checkTokens requests a token, drops it, and returns whether it was issued.
func (i *Identity) checkTokens(ctx context.Context) bool {
	bounded, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	_, err := i.credential.GetToken(bounded, policy.TokenRequestOptions{Scopes: []string{i.scope}})
	if ctx.Err() != nil {
		return true // the process ends
	}
	i.saw(ctx, &i.tokens, err)
	return err == nil
}

// sawRead records the result of a read of the cluster.
func (i *Identity) sawRead(ctx context.Context, err error) { i.saw(ctx, &i.reads, err) }

// saw records a result. A failure of Entra, ARM or the network changes nothing, unless no result was known.
func (i *Identity) saw(ctx context.Context, what *error, err error) {
	i.mu.Lock()
	before, usable := *what, errors.Join(i.tokens, i.reads) == nil
	switch classified := Classify(err); {
	case err == nil:
		*what = nil
	case classified.Reason == karpenterv1alpha5.ReasonIdentityUnauthorized, errors.Is(before, errUnchecked):
		*what = fmt.Errorf("the identity cannot be used: %s", classified.Explain())
	}
	now, after := errors.Join(i.tokens, i.reads), *what
	recovered := i.recovered
	i.mu.Unlock()

	i.metrics.identityUsable(now == nil)
	logger := log.FromContext(ctx).WithName("identity")
	if after != nil && (before == nil || before.Error() != after.Error()) {
		logger.Error(after, "Not ready")
	}
	if now == nil && !usable {
		logger.Info("The identity can be used")
		recovered()
	}
}

// renewing builds its credential again after a failure. Otherwise workload identity would keep the federated token of
// its file for minutes after a user has fixed it.
type renewing struct {
	build func() (azcore.TokenCredential, error)

	mu      sync.Mutex
	current azcore.TokenCredential
}

func (r *renewing) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	r.mu.Lock()
	if r.current == nil {
		current, err := r.build()
		if err != nil {
			r.mu.Unlock()
			return azcore.AccessToken{}, err
		}
		r.current = current
	}
	current := r.current
	r.mu.Unlock()
	token, err := current.GetToken(ctx, options)
	if err != nil {
		r.mu.Lock()
		if r.current == current {
			r.current = nil
		}
		r.mu.Unlock()
	}
	return token, err
}
