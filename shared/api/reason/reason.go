// SPDX-License-Identifier: Apache-2.0

package reason

// Class is what a reason means for a person.
type Class string

const (
	// Progress: the operator works as expected.
	Progress Class = "Progress"
	// Stalled: something is wrong. The page of the reason in docs/runbooks says what to do.
	Stalled Class = "Stalled"
	// Final: the object is in the state that its spec asks for.
	Final Class = "Final"
)
