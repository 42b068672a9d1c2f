// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"errors"

	"sigs.k8s.io/controller-runtime/pkg/log"

	"kaito.sh/gpu-provisioner/internal/azure"
	"kaito.sh/gpu-provisioner/internal/offering"
	"kaito.sh/gpu-provisioner/internal/quota"
)

func (a *actor) create(ctx context.Context, c Create) error {
	info := a.keys[c.Key]
	fit, request, err := a.preflight(ctx, info.key, c.Claims)
	if len(fit) == 0 {
		return err
	}
	refused := a.start(
		ctx,
		Operation{Key: c.Key, Target: len(fit), Asked: len(fit)},
		c.Pool,
		func() (azure.Handle, error) {
			return a.Azure.CreatePool(ctx, c.Pool, info.key.Spec(len(fit)))
		},
	) // start has logged the error and held the pool
	a.countQuota(c.Pool, request, refused)
	return err
}

func (a *actor) grow(ctx context.Context, g Grow) error {
	pool, _ := a.view.Pool(g.Pool)
	fit, request, err := a.preflight(ctx, a.keys[g.Key].key, g.Claims)
	if len(fit) == 0 {
		return err
	}
	refused := a.start(
		ctx,
		Operation{Key: g.Key, Target: g.From + len(fit), Asked: len(fit)},
		g.Pool,
		func() (azure.Handle, error) {
			return a.Azure.ResizePool(ctx, pool, g.From+len(fit))
		},
	) // start has logged the error and held the pool
	a.countQuota(g.Pool, request, refused)
	return err
}

// countQuota counts the machines that Azure has agreed to create against the quota.
func (a *actor) countQuota(pool string, request quota.Request, refused error) {
	if refused == nil {
		a.Preflight.Took(pool, request)
	}
}

// preflight returns the claims that the quota has room for, oldest first, and the request for them. It fails the other
// claims.
func (a *actor) preflight(ctx context.Context, key Key, claims []string) ([]string, quota.Request, error) {
	size, _ := a.SizeOf(key.Size)
	request := quota.Request{
		Size: key.Size, Family: size.Family, VCPUs: size.VCPUs, Spot: key.CapacityType == offering.Spot,
		Location: a.view.Cluster.Location, Machines: len(claims),
	}
	fit, why, err := a.Preflight.Fit(ctx, request)
	if err != nil {
		// Continue if the quota cannot be read: Azure checks it, too.
		log.FromContext(ctx).Error(err, "Reading the quota")
		return claims, request, nil
	}
	var errs []error
	if why != nil {
		for _, name := range claims[fit:] {
			errs = append(errs, a.fail(ctx, name, why))
		}
	}
	request.Machines = fit
	return claims[:fit], request, errors.Join(errs...)
}
