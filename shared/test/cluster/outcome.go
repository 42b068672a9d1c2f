// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"
	"time"
)

// OutcomeAnnotation on a pod of a simulated node says how its containers fare: a JSON object that maps a container's
// name to a ContainerOutcome. Set it in the pod template, or patch it onto the pod: it is read again at every step, and
// a change starts the wait for the step at hand anew. Without it every container runs and jobs succeed. A pod whose
// annotation is not such an object stays as it is, and gets an event that says so.
const OutcomeAnnotation = "sim.kaito.sh/outcome"

// Outcome is the content of OutcomeAnnotation.
type Outcome map[string]ContainerOutcome

// ContainerOutcome is what becomes of one container. How it is read depends on the container:
//
//   - init container: it runs for After (100 ms when zero), then ends as said; after a failure the pod has failed
//     (restartPolicy Never) or the container crash-loops (otherwise).
//   - main container of a Job's pod (label batch.kubernetes.io/job-name): it runs for After (500 ms when zero), then
//     ends as said, together with the pod's other main containers. A failure fails the pod, whatever its restartPolicy.
//   - main container of another pod: it runs and is ready. With an ExitCode other than zero it crash-loops after After,
//     until the annotation says otherwise.
type ContainerOutcome struct {
	// Waiting keeps the container from starting, with this reason: ImagePullBackOff, CreateContainerConfigError.
	Waiting string `json:"waiting,omitempty"`
	// After is how long the container runs before it ends.
	After time.Duration `json:"-"`
	// ExitCode is what it ends with, Reason why (by default Completed or Error; OOMKilled with 137), and Message what
	// it wrote to its termination log; for Waiting, Message explains it.
	ExitCode int32  `json:"exitCode,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	// Restarts is the count of restarts that a crash-looping container shows, 1 when zero.
	Restarts int32 `json:"restarts,omitempty"`
}

// MarshalJSON writes After as text, as KWOK reads durations.
func (o ContainerOutcome) MarshalJSON() ([]byte, error) {
	type plain ContainerOutcome
	out := struct {
		plain
		After string `json:"after,omitempty"`
	}{plain: plain(o)}
	if o.After != 0 {
		out.After = o.After.String()
	}
	return json.Marshal(out)
}

// Annotation is the value for OutcomeAnnotation.
func (o Outcome) Annotation() string {
	text, err := json.Marshal(o)
	if err != nil {
		// The types hold only text and numbers, which always marshal.
		panic(fmt.Sprintf("marshalling an outcome: %v", err))
	}
	return string(text)
}
