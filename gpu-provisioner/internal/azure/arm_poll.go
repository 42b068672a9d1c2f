// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
)

// Poll reads the progress of an operation once. An error means that the read failed, not the operation.
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
		return Progress{Lost: true}, nil // the SDK's poller of a Location treats each 4xx as the operation's failure
	}
	if !poller.Done() {
		next := defaultPoll
		if after := retryAfter(response.Header); after > 0 {
			next = after
		}
		return Progress{Next: next}, nil
	}
	if succeeded(response) {
		return Progress{Done: true}, nil // the result, one more call, is read with the list of pools
	}
	if _, err := poller.Result(ctx); err != nil {
		return Progress{Done: true, Err: Classify(err)}, nil
	}
	return Progress{Done: true}, nil
}

// forgotten returns whether the response says that the operation does not exist: ARM keeps its status for a limited
// time (https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations).
func forgotten(status int) bool { return status == http.StatusNotFound || status == http.StatusGone }

// succeeded reads an operation's status. The SDK has buffered the body.
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

// handle returns the Handle of a poller. The token of an operation that has already ended is empty.
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
