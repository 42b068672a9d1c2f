// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"k8s.io/utils/clock"
)

// defaultPoll is how soon an operation is looked at again when Azure gives no Retry-After.
const defaultPoll = 10 * time.Second

// ARM is the thin layer over the SDK: one method a call, every error classified, every call counted against its limit.
// No method waits: long operations come back as a Handle.
type ARM struct {
	config   Config
	limits   *Limits
	metrics  *Metrics
	clusters *armcontainerservice.ManagedClustersClient
	pools    *armcontainerservice.AgentPoolsClient
	machines *armcontainerservice.MachinesClient
	usages   *armcompute.UsageClient
	identity *Identity
	// clusterUID, when it is set, is a tag of every pool that is made, and pools without it are not ours.
	clusterUID string
}

// Serve has the pools belong to the Kubernetes cluster of that UID. Call it before anything is read.
func (a *ARM) Serve(clusterUID string) { a.clusterUID = clusterUID }

// NewARM builds the clients; nothing is called yet.
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

// Identity says whether the clients' identity can be used, once it is started on a clock.
func (a *ARM) Identity(c clock.Clock) *Identity {
	a.identity.clock = c
	return a.identity
}

// Spare says whether there is room for reads that can also wait.
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

// answered says whether ARM itself has answered, and not Entra before it.
func answered(err error) bool {
	var response *azcore.ResponseError
	var authentication *azidentity.AuthenticationFailedError
	return err == nil || errors.As(err, &response) && !errors.As(err, &authentication)
}

// notFoundIsCluster: a GET of the cluster itself that finds nothing is a wrong configuration, whatever its text.
func notFoundIsCluster(err error) error {
	if e := Classify(err); e.Class == ClassGone {
		return &Error{
			Reason: ReasonClusterNotFound, Class: ClassConfig, Code: e.Code, Status: e.Status, Message: e.Message,
			Remedy: "check clusterName, resourceGroup and subscriptionID in the operator's config file",
		}
	}
	return err
}

// Pools lists every agent pool of the cluster, ours or not, without their machines. It fails whole when a page fails.
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

// Machines lists the machines of a pool. It fails whole when a page fails. A machine that Azure lists without the id of
// a VM, as it may while it makes the VM, has no ProviderID: leaving it out would make a machine that runs look gone.
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

// CreatePool starts making a pool. It fails with a conflict when a pool of that name is there already.
func (a *ARM) CreatePool(ctx context.Context, name string, spec Spec) (Handle, error) {
	body := spec.agentPool()
	if a.clusterUID != "" {
		body.Properties.Tags[TagClusterUID] = ptr(a.clusterUID)
	}
	return a.put(ctx, name, body, &armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions{IfNoneMatch: ptr("*")})
}

// ResizePool starts changing the count of a pool, on the condition that nobody wrote to it since it was read.
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

// DeletePool starts deleting a pool with all its machines, on the condition that nobody wrote to it since it was read.
func (a *ARM) DeletePool(ctx context.Context, pool *Pool) (Handle, error) {
	opts := &armcontainerservice.AgentPoolsClientBeginDeleteOptions{
		IgnorePodDisruptionBudget: ptr(true),
	} // core has drained the nodes
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

// DeleteMachines starts deleting machines of a pool by name.
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

// Abort starts aborting the operation that runs on a pool.
func (a *ARM) Abort(ctx context.Context, pool string) (Handle, error) {
	return invoke(ctx, a, BucketOther, pool, "abort", func(ctx context.Context) (Handle, error) {
		poller, err := a.pools.BeginAbortLatestOperation(ctx, a.config.ResourceGroup, a.config.ClusterName, pool, nil)
		if err != nil {
			return Handle{}, err
		}
		return handle(OperationAbort, pool, poller)
	})
}

// Look looks once at a running operation. An error means that the look failed, not the operation.
func (a *ARM) Poll(ctx context.Context, h Handle) (Progress, error) {
	return invoke(ctx, a, BucketOperation, h.Pool, "operation", func(ctx context.Context) (Progress, error) {
		rg, cluster := a.config.ResourceGroup, a.config.ClusterName
		switch h.Kind {
		case OperationPut:
			p, err := a.pools.BeginCreateOrUpdate(
				ctx, rg, cluster, h.Pool, armcontainerservice.AgentPool{},
				&armcontainerservice.AgentPoolsClientBeginCreateOrUpdateOptions{ResumeToken: h.Token},
			)
			return look(ctx, p, err)
		case OperationDelete:
			p, err := a.pools.BeginDelete(
				ctx, rg, cluster, h.Pool, &armcontainerservice.AgentPoolsClientBeginDeleteOptions{ResumeToken: h.Token},
			)
			return look(ctx, p, err)
		case OperationDeleteMachines:
			p, err := a.pools.BeginDeleteMachines(
				ctx, rg, cluster, h.Pool, armcontainerservice.AgentPoolDeleteMachinesParameter{},
				&armcontainerservice.AgentPoolsClientBeginDeleteMachinesOptions{ResumeToken: h.Token},
			)
			return look(ctx, p, err)
		case OperationAbort:
			p, err := a.pools.BeginAbortLatestOperation(
				ctx, rg, cluster, h.Pool,
				&armcontainerservice.AgentPoolsClientBeginAbortLatestOperationOptions{ResumeToken: h.Token},
			)
			return look(ctx, p, err)
		default:
			return Progress{}, fmt.Errorf("operation kind %q is not one of put, delete, deleteMachines, abort", h.Kind)
		}
	})
}

func look[T any](ctx context.Context, poller *runtime.Poller[T], err error) (Progress, error) {
	if err != nil {
		return Progress{}, err
	}
	response, err := poller.Poll(ctx)
	var refused *azcore.ResponseError
	if errors.As(err, &refused) && forgotten(refused.StatusCode) {
		return Progress{Lost: true}, nil
	}
	if err != nil {
		return Progress{}, err
	}
	defer func() { _ = response.Body.Close() }() // the SDK has read and buffered it
	if forgotten(response.StatusCode) {
		return Progress{Lost: true}, nil // the SDK's poller of a Location takes every 4xx for the operation's failure
	}
	if !poller.Done() {
		next := defaultPoll
		if after := retryAfter(response.Header); after > 0 {
			next = after
		}
		return Progress{Next: next}, nil
	}
	if succeeded(response) {
		return Progress{Done: true}, nil // its result, one more call, is read with the list of pools
	}
	if _, err := poller.Result(ctx); err != nil {
		return Progress{Done: true, Err: Classify(err)}, nil
	}
	return Progress{Done: true}, nil
}

// forgotten says whether the status of an operation answers that there is no such operation, with whatever code and
// text: ARM keeps the status for a limited time only
// (https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations).
func forgotten(status int) bool { return status == http.StatusNotFound || status == http.StatusGone }

// succeeded reads an operation's status; the SDK has buffered the body.
func succeeded(response *http.Response) bool {
	raw, err := runtime.Payload(response)
	if err != nil {
		return false
	}
	var body struct {
		Status string `json:"status"`
	}
	return json.Unmarshal(raw, &body) == nil && strings.EqualFold(body.Status, StateSucceeded)
}

// handle takes the resume token of an operation that runs; one that is over already has an empty token.
func handle[T any](kind OperationKind, pool string, poller *runtime.Poller[T]) (Handle, error) {
	h := Handle{Kind: kind, Pool: pool}
	if poller.Done() {
		return h, nil
	}
	token, err := poller.ResumeToken()
	if err != nil {
		return Handle{}, fmt.Errorf("keeping the operation on pool %s: %w", pool, err)
	}
	h.Token = token
	return h, nil
}

// Usage is one row of the compute usages of a region, in vCPUs or whole numbers.
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

// invoke spends a token on fn, classifies its error, counts it, and closes the bucket when Azure throttles.
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
