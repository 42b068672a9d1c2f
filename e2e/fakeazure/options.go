// SPDX-License-Identifier: Apache-2.0

// Package fakeazure is a stateful server that speaks Azure's protocol over TLS: Entra's token endpoint and the part of
// ARM that an AKS node provisioner uses. Its clients are the real Azure SDKs. What takes time takes it on a clock that
// tests hold, and faults come from a script.
package fakeazure

import (
	"time"

	"github.com/go-jose/go-jose/v4"
	"k8s.io/utils/clock"
)

// Durations say how long Azure takes.
type Durations struct {
	// CreatePool, Scale, DeletePool and DeleteMachines are the lengths of operations.
	CreatePool, Scale, DeletePool, DeleteMachines time.Duration
	// VMBoot is how long after an operation's start a machine is listed, NodeJoin how long after that it is a Node.
	VMBoot, NodeJoin time.Duration
}

// defaultDurations are about what AKS takes for GPU pools.
var defaultDurations = Durations{
	CreatePool: 3 * time.Minute, Scale: 3 * time.Minute, DeletePool: 2 * time.Minute, DeleteMachines: 2 * time.Minute,
	VMBoot: time.Minute, NodeJoin: 90 * time.Second,
}

// Limits are the token buckets of the documentation
// (https://learn.microsoft.com/azure/aks/quotas-skus-regions#throttling-limits-on-aks-resource-provider-apis).
type Limits struct {
	// Off turns throttling off.
	Off bool
	// PutBurst and PutEvery are a pool's PUTs; OtherBurst and OtherEvery all other calls of the subscription;
	// StatusBurst and StatusEvery looks at operations. Every is the time in which one token comes back.
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

// maxPools and maxPoolNodes are AKS's (https://learn.microsoft.com/azure/aks/quotas-skus-regions).
const (
	maxPools     = 100
	maxPoolNodes = 1000
)

// Quota is a limit of vCPUs; Used is what others use.
type Quota struct {
	Limit int64 `json:"limit"`
	Used  int64 `json:"used,omitempty"`
}

// Options of a server; every field has a default.
type Options struct {
	SubscriptionID, TenantID, ClientID string
	ResourceGroup, ClusterName         string
	// Location is the region; NodeResourceGroup is answered in its own letter case, while Nodes carry it in lower case.
	Location, NodeResourceGroup string
	// Subject is whose federated token is taken, Issuer whose cluster's; empty: anybody's. With Keys the token's signature
	// is checked against them, as the cluster's /openid/v1/jwks answers them.
	Subject, Issuer string
	Keys            *jose.JSONWebKeySet
	// Dir holds the certificate and the state; empty: a temporary one that goes with Stop. A server that starts on
	// the folder of another goes on where that one stopped.
	Dir string
	// ARMAddress, EntraAddress and AdminAddress are what to listen on, IP:port; empty: any free port of loopback.
	ARMAddress, EntraAddress, AdminAddress string
	Durations                              Durations
	Limits                                 Limits
	// PageSize of lists; 0: 50.
	PageSize int
	// RegionalQuota, SpotQuota and FamilyQuota (by family) bound vCPUs; a zero Limit of the first two, and a family that
	// is not named, mean plenty.
	RegionalQuota, SpotQuota Quota
	FamilyQuota              map[string]Quota
	// Nodes is told of machines that boot and go; nil: nobody is.
	Nodes NodeSide
	// Clock; nil: the real one.
	Clock clock.WithTicker
	// OnRequest, when it is set, is asked before every ARM request; its verdict may cut the connection.
	OnRequest func(Request) Verdict
	// OnAnswer, when it is set, is told of every ARM call when it has been answered; of several at the same time, too.
	OnAnswer func(Answer)
}

// Request is one call as a hook sees it.
type Request struct {
	// Sequence counts ARM calls from 1.
	Sequence int
	// Verb names the call: getCluster, listPools, getPool, putPool, deletePool, deleteMachines, abort, listMachines,
	// getMachine, operation, operationResult, listUsages, listSKUs.
	Verb string
	Pool string
	// Operation is the id that a look at an operation names.
	Operation string
	// Write is true for what changes something.
	Write bool
	// Page of a list, from 1; Count that a PUT asks for.
	Page, Count int
}

// Answer is one call and what became of it.
type Answer struct {
	Request
	// Status is HTTP's; 0: the connection was cut.
	Status int
	// RetryAfter is the header of that name, in seconds; 0: there was none.
	RetryAfter int
	// At is when it was answered, on the cloud's clock.
	At time.Time
}

// Verdict says what becomes of a request.
type Verdict int

// The verdicts.
const (
	// Serve answers.
	Serve Verdict = iota
	// DropBefore cuts the connection before the request took effect.
	DropBefore
	// DropAfter cuts it after the request took effect.
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
