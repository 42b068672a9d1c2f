// SPDX-License-Identifier: Apache-2.0

// Package pool decides which agent pools to make, grow, shrink and delete so that every NodeClaim has one machine and
// every machine one NodeClaim, and carries the decisions out. Deciding is pure: Decide looks at a State and answers
// with actions.
package pool

import (
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// Claim is what deciding needs of a NodeClaim.
type Claim struct {
	Name    string
	UID     string
	Created time.Time
	// Seen is when this process saw the claim first. Created has whole seconds, too coarse to gather a burst by.
	Seen time.Time
	// Keys are the pool keys (hashes) whose machines would do, in the order of preference.
	Keys []string
	// Target is the one of Keys to ask Azure for now; empty when every one is known to be unavailable, see Unavailable.
	Target string
	// Unavailable is why there is no Target.
	Unavailable *azure.Error

	// ProviderID is the machine that the claim names, by its status or by the write-ahead annotation.
	ProviderID string
	// Bound is when that was written; zero when unknown.
	Bound time.Time
	// Registered says that the machine's Node has joined.
	Registered bool
	// Deleting says that the claim has a deletion timestamp.
	Deleting bool
	// Released says that core has drained the node and wants the machine deleted.
	Released bool
	// ReleasedAt is when this process heard of it; zero: an earlier one did.
	ReleasedAt time.Time
}

func (c *Claim) waiting() bool {
	return !c.Deleting && c.ProviderID == "" && len(c.Keys) > 0
}

// Operation is a write to a pool that runs, or that ended and whose result was not seen in the view yet.
type Operation struct {
	azure.Handle `json:",inline"`
	// Key is the pool's key, for a pool that is not in the view yet.
	Key string `json:"key"`
	// Of is that key in full, so that a restarted process knows which offering a failure is about.
	Of Key `json:"of"`
	// Target is the count that a put asks for, Asked how many machines of it are new.
	Target int `json:"target,omitempty"`
	Asked  int `json:"asked,omitempty"`
	// Machines are the provider ids that a deleteMachines removes.
	Machines MachineIDs `json:"machines,omitempty"`
	Started  time.Time  `json:"started"`
	// Aborted is when an abort was asked for, since the operation hung.
	Aborted time.Time `json:"aborted,omitzero"`

	// Ended is when the operation was seen to be over; it is kept until the view is younger.
	Ended time.Time `json:"-"`
	// NextPoll is when it is looked at whatever the view shows, NotBefore when Azure wants to be asked again at the
	// earliest.
	NextPoll  time.Time `json:"-"`
	NotBefore time.Time `json:"-"`
	// FailedPolls is how many looks at it have failed in a row. Forgotten says that Azure does not know it any more.
	// Unread is since when its pool's state must tell how it ended, for one of these reasons; zero: it need not.
	FailedPolls  int       `json:"-"`
	Forgotten    bool      `json:"-"`
	UnknownSince time.Time `json:"-"`
}

// Hold keeps writes of a pool, or of a key, back until a time, and says why.
type Hold struct {
	Until time.Time
	Err   *azure.Error
}

// Sighting is how often, and since when, something that should not be was seen in the view.
type Sighting struct {
	First time.Time // the view's time
	Last  time.Time
	Count int
}

// Settings are the operator's flags that deciding needs.
type Settings struct {
	// Gather is how long after the newest waiting claim a write is held back, so that one request serves all claims of a
	// burst. A claim never waits longer than five times as long. Released claims are gathered releaseGather times as long.
	Gather time.Duration
	// Patience is how long claims wait for a growing pool before the next ordinal is opened.
	Patience time.Duration
	// Grace is how long a machine that nobody names, or a count that nothing fills, is left alone.
	Grace time.Duration
	// OperationTimeout is how long a put may run before it is aborted.
	OperationTimeout time.Duration
	// JoinTimeout is how long a machine may take to become a Node.
	JoinTimeout time.Duration
	// MaxPools is how many agent pools AKS allows in a cluster.
	MaxPools int
}

// State is everything that Decide looks at.
type State struct {
	Now        time.Time
	View       azure.View
	Claims     []Claim
	Operations map[string]Operation // by pool
	Holds      map[string]Hold      // by pool name or key
	Sightings  map[string]Sighting  // by subject, see sight*
	// MaxPerPool gives the limit of machines in a pool of that key.
	MaxPerPool func(key string) int
	Settings   Settings
}

// Action is one thing to do; the concrete types say what.
type Action interface{ action() }

type (
	// Bind writes a machine's provider id on a claim.
	Bind struct{ Claim, ProviderID, Pool string }
	// Create makes a pool for claims.
	Create struct {
		Pool, Key string
		Claims    []string // names, oldest first; the count is their number
	}
	// Grow sets a pool's count to From plus the number of Claims.
	Grow struct {
		Pool, Key string
		From      int
		Claims    []string
	}
	// Shrink deletes machines of a pool.
	Shrink struct {
		Pool        string
		ProviderIDs []string
		// Surplus are those of them that no claim named.
		Surplus []string
	}
	// Remove deletes a pool.
	Remove struct {
		Pool    string
		Surplus []string
	}
	// Reset lowers a pool's count to the machines that are there.
	Reset struct {
		Pool  string
		Count int
	}
	// Fail gives up on a claim that has no machine.
	Fail struct {
		Claim string
		Err   *azure.Error
	}
	// Lose gives up on a claim whose machine is gone or never became a Node.
	Lose struct{ Claim, Reason, Message string }
	// Wait says what a claim waits for.
	Wait struct{ Claim, Reason, Message string }
	// Abort gives up on an operation that hangs, and that was noted or first seen at Started.
	Abort struct {
		Pool    string
		Started time.Time
	}
)

func (Bind) action()   {}
func (Create) action() {}
func (Grow) action()   {}
func (Shrink) action() {}
func (Remove) action() {}
func (Reset) action()  {}
func (Fail) action()   {}
func (Lose) action()   {}
func (Wait) action()   {}
func (Abort) action()  {}

// Writes says whether carrying the action out writes to Azure.
func Writes(a Action) bool {
	switch a.(type) {
	case Create, Grow, Shrink, Remove, Reset, Abort:
		return true
	}
	return false
}

// Decision is what to do now and when to look again at the latest.
type Decision struct {
	Actions []Action
	// Sightings replace the State's.
	Sightings map[string]Sighting
	// Doubts are the pools that are left alone, by name.
	Doubts map[string]Doubt
	// Settled are pools whose ended operation the view has caught up with: the operation can be forgotten.
	Settled []string
	// Next is when something that was held back becomes due; zero: nothing is.
	Next time.Time
}

// CoreRegistrationTimeout is how long core lets a launched claim be without a Node before it deletes it, with no reason
// (registrationTimeout in its nodeclaim/lifecycle/liveness.go). Our own JoinTimeout is less.
const CoreRegistrationTimeout = 15 * time.Minute

// Reasons that are ours and not Azure's.
const (
	ReasonLaunching        = "Launching"
	ReasonMachineGone      = "MachineGone"
	ReasonNodeNeverJoined  = "NodeNeverJoined"
	ReasonPoolLimitReached = "AgentPoolLimitReached"
	// ReasonClusterNotRunning: the cluster is stopped, or on the way there or back.
	ReasonClusterNotRunning = "ClusterNotRunning"
)
