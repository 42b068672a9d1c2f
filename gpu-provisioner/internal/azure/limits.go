// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/utils/clock"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// Bucket is one of the rate limits that AKS documents
// (https://learn.microsoft.com/azure/aks/quotas-skus-regions#throttling-limits-on-aks-resource-provider-apis).
type Bucket string

const (
	// BucketPoolPut limits PUTs of agent pools: burst 20, one a minute, for each pool.
	BucketPoolPut Bucket = "agentPoolPut"
	// BucketOperation limits reads of running operations: burst 200, two a second, for the subscription.
	BucketOperation Bucket = "operationStatus"
	// BucketOther limits all other calls of the AKS resource provider: burst 60, one a second, for the subscription.
	BucketOther Bucket = "other"
)

// reserve is the number of tokens of BucketOther that reads of the view leave, so that a long list never delays a
// delete.
const reserve = 10

// Limits keeps calls within the documented limits and obeys Retry-After. It never waits: a call without a token fails
// at once with a Throttled error that contains the delay.
type Limits struct {
	clock clock.PassiveClock
	share float64

	mu        sync.Mutex
	pools     map[string]*rate.Limiter
	operation *rate.Limiter
	other     *rate.Limiter
	blocked   map[string]time.Time // by bucket and, for PUTs, pool
}

// NewLimits returns full buckets. share is a factor on the documented rates: less than 1 leaves calls to other
// programs, because the whole subscription shares the limits; more than 1 is for a subscription with raised limits, or
// for a fake Azure on a fast clock. Bursts never exceed the documented ones.
func NewLimits(c clock.PassiveClock, share float64) *Limits {
	l := &Limits{clock: c, share: share, pools: map[string]*rate.Limiter{}, blocked: map[string]time.Time{}}
	l.operation = l.bucket(2, 200)
	l.other = l.bucket(1, 60)
	return l
}

func (l *Limits) bucket(perSecond float64, burst int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond*l.share), max(1, int(float64(burst)*min(1, l.share))))
}

// spare is the number of tokens of BucketOther that reads of the view leave.
func (l *Limits) spare() float64 { return reserve * min(1, l.share) }

// Take takes one token. pool is the agent pool, for BucketPoolPut. The error is an *Error of class throttle.
func (l *Limits) Take(bucket Bucket, pool string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	if until, ok := l.blocked[blockKey(bucket, pool)]; ok && now.Before(until) {
		return Throttled(until.Sub(now))
	}
	limiter := l.limiter(bucket, pool)
	r := limiter.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return Throttled(wait)
	}
	return nil
}

// Spare returns whether a read that can also be made later may be made now.
func (l *Limits) Spare() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	return !now.Before(l.blocked[blockKey(BucketOther, "")]) && l.other.TokensAt(now) >= l.spare()
}

// Block closes a bucket for the delay that Azure requests.
func (l *Limits) Block(bucket Bucket, pool string, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := l.clock.Now().Add(d); until.After(l.blocked[blockKey(bucket, pool)]) {
		l.blocked[blockKey(bucket, pool)] = until
	}
}

func (l *Limits) limiter(bucket Bucket, pool string) *rate.Limiter {
	switch bucket {
	case BucketOperation:
		return l.operation
	case BucketPoolPut:
		limiter, ok := l.pools[pool]
		if !ok {
			limiter = l.bucket(1.0/60, 20)
			l.pools[pool] = limiter
		}
		return limiter
	default:
		return l.other
	}
}

func blockKey(bucket Bucket, pool string) string {
	if bucket != BucketPoolPut {
		pool = "" // the subscription shares the other buckets
	}
	return string(bucket) + "/" + pool
}

// Throttled returns the error of a call that these limits reject.
func Throttled(after time.Duration) *Error {
	return &Error{
		Reason: karpenterv1alpha5.ReasonThrottled, Class: ClassThrottle, RetryAfter: after,
		Message: "the documented rate of Azure's API is used up", Remedy: "none: retried",
	}
}
