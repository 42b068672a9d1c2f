// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"
	"time"
)

// OutcomeAnnotation on a pod of a simulated node sets the outcome of its containers: a JSON object that maps the name
// of a container to a ContainerOutcome. Set it in the pod template, or patch the pod: it is read at each step, and a
// change restarts the wait of the current step. Without it all containers run and Jobs succeed. A pod with an invalid
// annotation does not change, and gets an event.
const OutcomeAnnotation = "sim.kaito.sh/outcome"

// Outcome is the content of OutcomeAnnotation.
type Outcome map[string]ContainerOutcome

// ContainerOutcome is the outcome of a container. Its meaning depends on the container:
//
//   - init container: it runs for After (100 ms if zero) and then ends. After a failure the pod fails
//     (restartPolicy Never) or the container crash-loops (otherwise).
//   - main container of a Job's pod (label batch.kubernetes.io/job-name): it runs for After (500 ms if zero) and then
//     ends together with the other main containers. A failure fails the pod with any restartPolicy.
//   - main container of another pod: it runs and is ready. With an ExitCode other than zero it crash-loops after After
//     until the annotation changes.
type ContainerOutcome struct {
	// Waiting keeps the container from starting, with this reason: ImagePullBackOff, CreateContainerConfigError.
	Waiting string `json:"waiting,omitempty"`
	// After is how long the container runs before it ends.
	After time.Duration `json:"-"`
	// ExitCode, Reason (by default Completed or Error, or OOMKilled for 137) and Message (the termination message)
	// describe the end. With Waiting, Message explains the reason.
	ExitCode int32  `json:"exitCode,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	// Restarts is the number of restarts of a crash-looping container. 0: 1.
	Restarts int32 `json:"restarts,omitempty"`
}

// MarshalJSON writes After as a text, which KWOK expects.
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

// Annotation returns the value for OutcomeAnnotation.
func (o Outcome) Annotation() string {
	text, err := json.Marshal(o)
	if err != nil {
		// Texts and numbers can always be marshalled.
		panic(fmt.Sprintf("marshalling an outcome: %v", err))
	}
	return string(text)
}
