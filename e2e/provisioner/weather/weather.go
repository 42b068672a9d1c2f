// SPDX-License-Identifier: Apache-2.0

package weather

import "kaito.sh/e2e/fakeazure"

// Faults are faults of Azure. Lists have pages of two entries.
var Faults = []fakeazure.Fault{
	{
		Verb: "putPool",
		Kind: "FamilyQuota",
	},
	{Verb: "putPool", Kind: "SKUNotAvailable"},
	{Verb: "putPool", Kind: "AllocationFailed"},
	{
		Verb:  "putPool",
		Kind:  "AllocationFailed",
		Fails: 1,
	},
	{Verb: "putPool", Kind: "OperationInProgress"},
	{Verb: "putPool", Kind: "ETagMismatch"},
	{Verb: "putPool", Kind: "Throttled"},
	{Verb: "putPool", Kind: "ServerError"},
	{Verb: "putPool", Kind: "Forbidden"},
	{
		Verb: "putPool",
		Drop: fakeazure.DropBefore,
	},
	{Verb: "putPool", Drop: fakeazure.DropAfter},
	{Verb: "putPool", Hang: true},
	{Verb: "putPool", NeverJoins: true},
	{Verb: "putPool", NoGPU: true},
	{Verb: "putPool", NotReady: true},
	{
		Verb: "deletePool",
		Kind: "ServerError",
	},
	{Verb: "deletePool", Kind: "OperationInProgress"},
	{Verb: "deletePool", Drop: fakeazure.DropAfter},
	{
		Verb: "deleteMachines",
		Kind: "ServerError",
	},
	{Verb: "deleteMachines", Kind: "OperationInProgress"},
	{Verb: "deleteMachines", Drop: fakeazure.DropAfter},
	{
		Verb: "listPools",
		Kind: "ServerError",
	},
	{Verb: "listPools", Page: 2, Kind: "ServerError"},
	{Verb: "listMachines", Page: 2, Kind: "ServiceUnavailable"},
	{
		Verb: "listMachines",
		Drop: fakeazure.DropBefore,
	},
	{Verb: "getCluster", Kind: "ServiceUnavailable"},
	{Verb: "operation", Kind: "ServerError"},
	{
		Verb: "operation",
		Drop: fakeazure.DropBefore,
	},
	{Verb: "listUsages", Kind: "ServerError"},
	{Kind: "Throttled"},
	{Kind: "Unauthorized"},
	// Wrong lists with a status of 200, and operations whose status Azure no longer knows.
	{
		Verb: "listMachines",
		Kind: "PoolNotFound",
	},
	{Verb: "listMachines", Empty: true},
	{Verb: "listMachines", Short: 1},
	{Verb: "listMachines", NoResourceID: 1},
	{
		Verb: "operation",
		Kind: "OperationNotFound",
	},
	{Verb: "operation", Kind: "OperationForgotten"},
	{Verb: "operation", Kind: "OperationGone"},
}
