// SPDX-License-Identifier: Apache-2.0

package fakeazure

// PowerState is the state of the cluster.
type PowerState string

// States of the cluster.
const (
	PowerRunning  PowerState = "Running"
	PowerStopping PowerState = "Stopping"
	PowerStopped  PowerState = "Stopped"
	PowerStarting PowerState = "Starting"
)

func (p PowerState) known() bool {
	return p == PowerRunning || p == PowerStopping || p == PowerStopped || p == PowerStarting
}

// answers returns powerState.code, which is Running or Stopped, and provisioningState, which shows transitions.
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
