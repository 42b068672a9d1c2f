// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"time"

	"github.com/go-jose/go-jose/v4"
	"k8s.io/utils/clock"
)

// Durations are the times that Azure takes.
type Durations struct {
	// CreatePool, Scale, DeletePool and DeleteMachines are the durations of operations.
	CreatePool, Scale, DeletePool, DeleteMachines time.Duration
	// VMBoot is the time from an operation's start until a machine is listed. NodeJoin is the time from then until it is a
	// Node.
	VMBoot, NodeJoin time.Duration
}

// defaultDurations are typical for GPU pools of AKS.
var defaultDurations = Durations{
	CreatePool: 3 * time.Minute, Scale: 3 * time.Minute, DeletePool: 2 * time.Minute, DeleteMachines: 2 * time.Minute,
	VMBoot: time.Minute, NodeJoin: 90 * time.Second,
}

// Limits are the documented token buckets
// (https://learn.microsoft.com/azure/aks/quotas-skus-regions#throttling-limits-on-aks-resource-provider-apis).
type Limits struct {
	// Off turns throttling off.
	Off bool
	// PutBurst and PutEvery apply to a pool's PUTs, StatusBurst and StatusEvery to reads of operations, OtherBurst and
	// OtherEvery to all other calls of the subscription. Every is the time in which one token is added.
	PutBurst, OtherBurst, StatusBurst int
	PutEvery, OtherEvery, StatusEvery time.Duration
}

var defaultLimits = Limits{
	PutBurst:    20,
	PutEvery:    time.Minute,
	OtherBurst:  60,
	OtherEvery:  time.Second,
	StatusBurst: 200,
	StatusEvery: 500 * time.Millisecond,
}

// maxPools and maxPoolNodes are limits of AKS (https://learn.microsoft.com/azure/aks/quotas-skus-regions).
const (
	maxPools     = 100
	maxPoolNodes = 1000
)

// Quota is a limit of vCPUs. Used is the usage by others.
type Quota struct {
	Limit int64 `json:"limit"`
	Used  int64 `json:"used,omitempty"`
}

// Options of a server. Each field has a default.
type Options struct {
	SubscriptionID, TenantID, ClientID string
	ResourceGroup, ClusterName         string
	// Location is the region. Responses have NodeResourceGroup in its own letter case, Nodes in lower case.
	Location, NodeResourceGroup string
	// Subject and Issuer are the accepted federated token's. Empty: any. If Keys is set, as the cluster's /openid/v1/jwks
	// returns it, the token's signature is checked.
	Subject, Issuer string
	Keys            *jose.JSONWebKeySet
	// Dir is the folder of the certificate and the state. Empty: a temporary folder that Stop deletes. A server that
	// starts on the folder of an earlier one continues from its state.
	Dir string
	// ARMAddress, EntraAddress and AdminAddress are addresses to listen on, IP:port. Empty: a free port of loopback.
	ARMAddress, EntraAddress, AdminAddress string
	Durations                              Durations
	Limits                                 Limits
	// PageSize is the number of entries on a page of a list. 0: 50.
	PageSize int
	// RegionalQuota, SpotQuota and FamilyQuota (by family) limit vCPUs. A zero Limit, or a family that is not listed,
	// means that there is enough.
	RegionalQuota, SpotQuota Quota
	FamilyQuota              map[string]Quota
	// Nodes is notified of machines that boot and are deleted. Nil: no Nodes.
	Nodes NodeSide
	// Clock is the cloud's clock. Nil: the real one.
	Clock clock.WithTicker
	// OnRequest, if set, is called before each ARM request. Its verdict may cut the connection.
	OnRequest func(Request) Verdict
	// OnAnswer, if set, is called after each ARM call, also concurrently.
	OnAnswer func(Answer)
}

// Request is one call, for hooks.
type Request struct {
	// Sequence is the number of the ARM call, from 1.
	Sequence int
	// Verb is one of getCluster, listPools, getPool, putPool, deletePool, deleteMachines, abort, listMachines, getMachine,
	// operation, operationResult, listUsages, listSKUs.
	Verb string
	Pool string
	// Operation is the ID of the operation that is polled.
	Operation string
	// Write is true for calls that change something.
	Write bool
	// Page is the number of a list's page, from 1. Count is the count of a PUT.
	Page, Count int
}

// Answer is one call and its response.
type Answer struct {
	Request
	// Status is the HTTP status. 0: the connection was cut.
	Status int
	// RetryAfter is the header of that name, in seconds. 0: absent.
	RetryAfter int
	// At is the time of the response on the cloud's clock.
	At time.Time
}

// Verdict is what happens to a request.
type Verdict int

// Verdicts.
const (
	// Serve responds.
	Serve Verdict = iota
	// DropBefore cuts the connection before the request takes effect.
	DropBefore
	// DropAfter cuts it after the request takes effect.
	DropAfter
)

func (o Options) withDefaults() Options {
	text := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	text(&o.SubscriptionID, "00000000-0000-0000-0000-0000000000aa")
	text(&o.TenantID, "00000000-0000-0000-0000-0000000000bb")
	text(&o.ClientID, "00000000-0000-0000-0000-0000000000cc")
	text(&o.ResourceGroup, "kaito-rg")
	text(&o.ClusterName, "kaito")
	text(&o.Location, "eastus")
	text(&o.NodeResourceGroup, "MC_"+o.ResourceGroup+"_"+o.ClusterName+"_"+o.Location)
	length := func(field *time.Duration, value time.Duration) {
		if *field == 0 {
			*field = value
		}
	}
	d := &o.Durations
	length(&d.CreatePool, defaultDurations.CreatePool)
	length(&d.Scale, defaultDurations.Scale)
	length(&d.DeletePool, defaultDurations.DeletePool)
	length(&d.DeleteMachines, defaultDurations.DeleteMachines)
	length(&d.VMBoot, defaultDurations.VMBoot)
	length(&d.NodeJoin, defaultDurations.NodeJoin)
	if off := o.Limits.Off; o.Limits.PutBurst == 0 {
		o.Limits = defaultLimits
		o.Limits.Off = off
	}
	if o.PageSize == 0 {
		o.PageSize = 50
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Nodes == nil {
		o.Nodes = noNodes{}
	}
	return o
}
