// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"k8s.io/utils/clock"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// defaultPoll is the delay until the next poll of an operation if Azure sends no Retry-After.
const defaultPoll = 10 * time.Second

// ARM is a thin layer over the SDK. Each method makes one call, counts it against its rate limit and classifies its
// error. No method waits: long operations return a Handle.
type ARM struct {
	config   Config
	limits   *Limits
	metrics  *Metrics
	clusters *armcontainerservice.ManagedClustersClient
	pools    *armcontainerservice.AgentPoolsClient
	machines *armcontainerservice.MachinesClient
	usages   *armcompute.UsageClient
	identity *Identity
	// clusterUID, if set, is a tag of each new pool, and pools without it do not belong to this operator.
	clusterUID string
}

// Serve sets the UID of the Kubernetes cluster that owns the pools. Call it before any read.
func (a *ARM) Serve(clusterUID string) { a.clusterUID = clusterUID }

// NewARM builds the clients. It calls nothing.
func NewARM(config Config, limits *Limits, metrics *Metrics) (*ARM, error) {
	credential, opts, err := config.armClient()
	if err != nil {
		return nil, err
	}
	return newARM(config, credential, opts, limits, metrics)
}

func newARM(
	config Config, credential azcore.TokenCredential, opts *arm.ClientOptions, limits *Limits, metrics *Metrics,
) (*ARM, error) {
	aks, err := armcontainerservice.NewClientFactory(config.SubscriptionID, credential, opts)
	if err != nil {
		return nil, fmt.Errorf("building the AKS clients: %w", err)
	}
	usages, err := armcompute.NewUsageClient(config.SubscriptionID, credential, opts)
	if err != nil {
		return nil, fmt.Errorf("building the compute usage client: %w", err)
	}
	return &ARM{
		config: config, limits: limits, metrics: metrics,
		clusters: aks.NewManagedClustersClient(), pools: aks.NewAgentPoolsClient(), machines: aks.NewMachinesClient(),
		usages:   usages,
		identity: newIdentity(credential, opts.Cloud.Services[cloud.ResourceManager].Audience+"/.default", metrics),
	}, nil
}

// Identity returns the check of the clients' identity.
func (a *ARM) Identity(c clock.Clock) *Identity {
	a.identity.clock = c
	return a.identity
}

// Spare returns whether the rate limit has room for reads that can also be made later.
func (a *ARM) Spare() bool { return a.limits.Spare() }

// Cluster reads the managed cluster.
func (a *ARM) Cluster(ctx context.Context) (Cluster, error) {
	return invoke(ctx, a, BucketOther, "", "getCluster", func(ctx context.Context) (Cluster, error) {
		r, err := a.clusters.Get(ctx, a.config.ResourceGroup, a.config.ClusterName, nil)
		if answered(err) {
			a.identity.sawRead(ctx, err)
		}
		if err != nil {
			return Cluster{}, notFoundIsCluster(err)
		}
		out := Cluster{
			Location:      deref(r.Location),
			Name:          a.config.ClusterName,
			ResourceGroup: a.config.ResourceGroup,
			UID:           a.clusterUID,
		}
		if p := r.Properties; p != nil {
			out.NodeResourceGroup = deref(p.NodeResourceGroup)
			out.ProvisioningState = deref(p.ProvisioningState)
			if p.PowerState != nil {
				out.PowerState = string(deref(p.PowerState.Code))
			}
		}
		return out, nil
	})
}

// answered returns whether ARM, and not Entra before it, has answered.
func answered(err error) bool {
	var response *azcore.ResponseError
	var authentication *azidentity.AuthenticationFailedError
	return err == nil || errors.As(err, &response) && !errors.As(err, &authentication)
}

// notFoundIsCluster classifies a cluster that does not exist as a wrong configuration, independent of the error's text.
func notFoundIsCluster(err error) error {
	if e := Classify(err); e.Class == ClassGone {
		return &Error{
			Reason: karpenterv1alpha5.ReasonClusterNotFound, Class: ClassConfig,
			Code: e.Code, Status: e.Status, Message: e.Message,
			Remedy: "check clusterName, resourceGroup and subscriptionID in the operator's config file",
		}
	}
	return err
}

// Pools lists all agent pools of the cluster without their machines. It fails if one page fails.
func (a *ARM) Pools(ctx context.Context) ([]Pool, error) {
	var out []Pool
	pager := a.pools.NewListPager(a.config.ResourceGroup, a.config.ClusterName, nil)
	for pager.More() {
		page, err := invoke(ctx, a, BucketOther, "", "listPools", pager.NextPage)
		if err != nil {
			return nil, err
		}
		for _, p := range page.Value {
			pool := fromAgentPool(p)
			pool.foreign = a.clusterUID != "" && pool.Tags[TagClusterUID] != a.clusterUID
			out = append(out, pool)
		}
	}
	return out, nil
}

// Machines lists the machines of a pool. It fails if one page fails. Azure may list a machine without the ID of its VM
// while it creates the VM; such a machine has no ProviderID. Without it in the list, a running machine would look
// deleted.
func (a *ARM) Machines(ctx context.Context, pool string) ([]Machine, error) {
	var out []Machine
	pager := a.machines.NewListPager(a.config.ResourceGroup, a.config.ClusterName, pool, nil)
	for pager.More() {
		page, err := invoke(ctx, a, BucketOther, pool, "listMachines", pager.NextPage)
		if err != nil {
			return nil, err
		}
		for _, m := range page.Value {
			machine := Machine{Name: deref(m.Name)}
			if m.Properties != nil {
				machine.ProviderID = ProviderID(deref(m.Properties.ResourceID))
			}
			out = append(out, machine)
		}
	}
	return out, nil
}

// CreatePool starts the creation of a pool. It fails with a conflict if a pool of that name exists.
func (a *ARM) CreatePool(ctx context.Context, name string, spec Spec) (Handle, error) {
	body := spec.agentPool()
	if a.clusterUID != "" {
		body.Properties.Tags[TagClusterUID] = ptr(a.clusterUID)
	}
	return a.put(ctx, name, body, &armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions{IfNoneMatch: ptr("*")})
}

// ResizePool starts a change of a pool's count. It fails with a conflict if the pool was changed since it was read.
func (a *ARM) ResizePool(ctx context.Context, pool *Pool, count int) (Handle, error) {
	opts := &armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions{}
	if pool.ETag != "" {
		opts.IfMatch = ptr(pool.ETag)
	}
	return a.put(ctx, pool.Name, pool.resized(count), opts)
}

func (a *ARM) put(
	ctx context.Context, name string, body armcontainerservice.AgentPool,
	opts *armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions,
) (Handle, error) {
	return invoke(ctx, a, BucketPoolPut, name, "putPool", func(ctx context.Context) (Handle, error) {
		poller, err := a.pools.BeginCreateOrUpdate(ctx, a.config.ResourceGroup, a.config.ClusterName, name, body, opts)
		if err != nil {
			return Handle{}, err
		}
		return handle(OperationPut, name, poller)
	})
}

// DeletePool starts the deletion of a pool with all its machines. It fails with a conflict if the pool was changed
// since it was read.
func (a *ARM) DeletePool(ctx context.Context, pool *Pool) (Handle, error) {
	opts := &armcontainerservice.AgentPoolsClientBeginDeleteOptions{
		IgnorePodDisruptionBudget: ptr(true),
	} // Karpenter has drained the Nodes
	if pool.ETag != "" {
		opts.IfMatch = ptr(pool.ETag)
	}
	return invoke(ctx, a, BucketOther, pool.Name, "deletePool", func(ctx context.Context) (Handle, error) {
		poller, err := a.pools.BeginDelete(ctx, a.config.ResourceGroup, a.config.ClusterName, pool.Name, opts)
		if err != nil {
			return Handle{}, err
		}
		return handle(OperationDelete, pool.Name, poller)
	})
}

// DeleteMachines starts the deletion of machines of a pool, by name.
func (a *ARM) DeleteMachines(ctx context.Context, pool string, names []string) (Handle, error) {
	body := armcontainerservice.AgentPoolDeleteMachinesParameter{}
	for _, n := range names {
		body.MachineNames = append(body.MachineNames, ptr(n))
	}
	return invoke(ctx, a, BucketOther, pool, "deleteMachines", func(ctx context.Context) (Handle, error) {
		poller, err := a.pools.BeginDeleteMachines(ctx, a.config.ResourceGroup, a.config.ClusterName, pool, body, nil)
		if err != nil {
			return Handle{}, err
		}
		return handle(OperationDeleteMachines, pool, poller)
	})
}

// Abort starts the abort of the operation that runs on a pool.
func (a *ARM) Abort(ctx context.Context, pool string) (Handle, error) {
	return invoke(ctx, a, BucketOther, pool, "abort", func(ctx context.Context) (Handle, error) {
		poller, err := a.pools.BeginAbortLatestOperation(ctx, a.config.ResourceGroup, a.config.ClusterName, pool, nil)
		if err != nil {
			return Handle{}, err
		}
		return handle(OperationAbort, pool, poller)
	})
}

// Usage is one row of a region's compute usages, in vCPUs or in whole numbers.
type Usage struct {
	Name    string
	Current int64
	Limit   int64
}

// Usages lists the subscription's compute usages in a region.
func (a *ARM) Usages(ctx context.Context, location string) ([]Usage, error) {
	var out []Usage
	pager := a.usages.NewListPager(location, nil)
	for pager.More() {
		page, err := invoke(ctx, a, BucketOther, "", "listUsages", pager.NextPage)
		if err != nil {
			return nil, err
		}
		for _, u := range page.Value {
			if u.Name != nil {
				out = append(out, Usage{Name: deref(u.Name.Value), Current: int64(deref(u.CurrentValue)), Limit: deref(u.Limit)})
			}
		}
	}
	return out, nil
}

// invoke takes a token from the rate limit, calls fn, and counts and classifies its error. If Azure throttles, it
// blocks the limit.
func invoke[T any](
	ctx context.Context, a *ARM, bucket Bucket, pool, verb string, fn func(context.Context) (T, error),
) (T, error) {
	if err := a.limits.Take(bucket, pool); err != nil {
		var zero T
		a.metrics.call(verb, AsError(err))
		return zero, err
	}
	out, err := fn(ctx)
	if err == nil {
		a.metrics.call(verb, nil)
		return out, nil
	}
	classified := Classify(err)
	a.metrics.call(verb, classified)
	if classified.Class == ClassThrottle {
		a.limits.Block(bucket, pool, classified.RetryAfter)
	}
	return out, classified
}
