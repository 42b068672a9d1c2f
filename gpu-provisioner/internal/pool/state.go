// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"time"

	"kaito.sh/gpu-provisioner/internal/azure"
)

// Claim has what Decide needs of a NodeClaim.
type Claim struct {
	Name    string
	UID     string
	Created time.Time
	// Seen is the time at which this process first saw the claim. Created has whole seconds only, which is too coarse to
	// gather a burst.
	Seen time.Time
	// Keys are the hashes of the pool keys that can serve the claim, in the order of preference.
	Keys []string
	// Target is the first of Keys that is not marked as unavailable. Empty: all are; see Unavailable.
	Target string
	// Unavailable is the reason why Target is empty.
	Unavailable *azure.Error

	// ProviderID is the machine of the claim, from its status or from AnnotationProviderID.
	ProviderID string
	// Bound is the time at which the machine was bound. Zero: unknown.
	Bound time.Time
	// Registered is true when the machine's Node has registered.
	Registered bool
	// Deleting is true when the claim has a deletion timestamp.
	Deleting bool
	// Released is true when Karpenter has drained the Node and wants the machine deleted.
	Released bool
	// ReleasedAt is the time at which this process learned of it. Zero: an earlier process did.
	ReleasedAt time.Time
}

func (c *Claim) waiting() bool {
	return !c.Deleting && c.ProviderID == "" && len(c.Keys) > 0
}

// Operation is a write to a pool that runs, or that has ended but whose result the view does not show yet.
type Operation struct {
	azure.Handle `json:",inline"`
	// Key is the hash of the pool's key, for a pool that the view does not show yet.
	Key string `json:"key"`
	// Of is the key itself. A restarted process needs it to find the offering that a failure is about.
	Of Key `json:"of"`
	// Target is the count that a put requests. Asked is the number of new machines in it.
	Target int `json:"target,omitempty"`
	Asked  int `json:"asked,omitempty"`
	// Machines are the provider IDs that a deleteMachines deletes.
	Machines MachineIDs `json:"machines,omitempty"`
	Started  time.Time  `json:"started"`
	// Aborted is the time at which the operation was aborted, because it timed out.
	Aborted time.Time `json:"aborted,omitzero"`

	// Ended is the time at which the operation was seen to have ended. The operation is kept until the view is newer.
	Ended time.Time `json:"-"`
	// NextPoll is the time of the next poll, even if the view shows no change. NotBefore is the earliest time of a poll
	// that Azure allows.
	NextPoll  time.Time `json:"-"`
	NotBefore time.Time `json:"-"`
	// FailedPolls is the number of polls that failed in a row. Forgotten is true when Azure no longer knows the operation.
	// UnknownSince is the time since which the pool's state decides how the operation ended. Zero: polls decide.
	FailedPolls  int       `json:"-"`
	Forgotten    bool      `json:"-"`
	UnknownSince time.Time `json:"-"`
}

// Hold delays writes to a pool, or for a key, after an error.
type Hold struct {
	Until time.Time
	Err   *azure.Error
}

// Sighting records how often, and since when, the view has shown an inconsistency.
type Sighting struct {
	First time.Time // time of the view
	Last  time.Time
	Count int
}

// Settings are the flags that Decide needs.
type Settings struct {
	// Gather is the time after the newest waiting claim for which a write is delayed, so that one request serves all
	// claims of a burst. A claim waits at most five times as long. Released claims are gathered releaseGather times as
	// long.
	Gather time.Duration
	// Patience is the time that claims wait for a busy pool before another pool is created.
	Patience time.Duration
	// Grace is the time before a machine without a claim is deleted, and before a pool's count is reset to its machines.
	Grace time.Duration
	// OperationTimeout is the time that a put may run before it is aborted.
	OperationTimeout time.Duration
	// JoinTimeout is the time that a machine may take to register as a Node.
	JoinTimeout time.Duration
	// MaxPools is AKS's limit of agent pools in a cluster.
	MaxPools int
}

// State is the input of Decide.
type State struct {
	Now        time.Time
	View       azure.View
	Claims     []Claim
	Operations map[string]Operation // by pool
	Holds      map[string]Hold      // by pool name or key
	Sightings  map[string]Sighting  // by subject, see sightMachine and its siblings
	// MaxPerPool returns the limit of machines in a pool of that key.
	MaxPerPool func(key string) int
	Settings   Settings
}

// Action is one thing to do. Its type says what.
type Action interface{ action() }

type (
	// Bind writes a machine's provider ID to a claim.
	Bind struct{ Claim, ProviderID, Pool string }
	// Create creates a pool for claims.
	Create struct {
		Pool, Key string
		Claims    []string // names, oldest first; the pool's count is their number
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
		// Surplus are those of ProviderIDs that no claim named.
		Surplus []string
	}
	// Remove deletes a pool.
	Remove struct {
		Pool    string
		Surplus []string
	}
	// Reset lowers a pool's count to the number of its machines.
	Reset struct {
		Pool  string
		Count int
	}
	// Fail marks a claim without a machine as failed.
	Fail struct {
		Claim string
		Err   *azure.Error
	}
	// Lose deletes a claim whose machine is gone or did not register as a Node.
	Lose struct{ Claim, Reason, Message string }
	// Wait reports what a claim waits for.
	Wait struct{ Claim, Reason, Message string }
	// Abort aborts an operation that has timed out. Started is the time at which it was started or first seen.
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

// Writes returns whether the action writes to Azure.
func Writes(a Action) bool {
	switch a.(type) {
	case Create, Grow, Shrink, Remove, Reset, Abort:
		return true
	}
	return false
}

// Decision is the output of Decide.
type Decision struct {
	Actions []Action
	// Sightings replace those of the State.
	Sightings map[string]Sighting
	// Doubts are the pools that must not be changed, by name.
	Doubts map[string]Doubt
	// Settled are the pools whose ended operation the view has caught up with.
	Settled []string
	// Next is the time at which the next delayed action is due. Zero: none is delayed.
	Next time.Time
}

// CoreRegistrationTimeout is the time after which Karpenter deletes a launched claim without a Node, and gives no
// reason (registrationTimeout in its nodeclaim/lifecycle/liveness.go). JoinTimeout must be less.
const CoreRegistrationTimeout = 15 * time.Minute
