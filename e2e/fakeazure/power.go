// SPDX-License-Identifier: Apache-2.0

package fakeazure

// PowerState is what the cluster is at.
type PowerState string

// The states of a cluster.
const (
	PowerRunning  PowerState = "Running"
	PowerStopping PowerState = "Stopping"
	PowerStopped  PowerState = "Stopped"
	PowerStarting PowerState = "Starting"
)

func (p PowerState) known() bool {
	return p == PowerRunning || p == PowerStopping || p == PowerStopped || p == PowerStarting
}

// answers are powerState.code, which knows only Running and Stopped, and provisioningState: on the way, only the latter
// tells.
func (p PowerState) answers() (code, provisioning string) {
	switch p {
	case PowerStopped:
		return string(PowerStopped), stateSucceeded
	case PowerStopping, PowerStarting:
		return string(PowerRunning), string(p)
	default:
		return string(PowerRunning), stateSucceeded
	}
}
