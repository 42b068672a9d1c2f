// SPDX-License-Identifier: Apache-2.0

// Package message is the contract between the containers of a tuning pod and the controller: what each of them writes
// to its termination message. The runner and the trainer write it, the controller reads it; the JSON is described for
// people in tuning-operator/README.md.
package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"kaito.sh/shared/excerpt"
)

// MaxBytes is what the kubelet keeps of one container's termination message (Kubernetes, "Customizing the termination
// message": 4096 bytes a container).
const MaxBytes = 4096

// Version of the format. A reader refuses another one instead of guessing.
const Version = 1

// Step names the container that wrote the message.
type Step string

// The steps of a tuning pod, in the order in which they run.
const (
	StepFetch Step = "fetch"
	StepTrain Step = "train"
	StepPush  Step = "push"
)

// Steps of other pods.
const (
	// StepTrust gathers certificate authorities for an engine, before it starts.
	StepTrust Step = "trust"
	// StepResolve asks the registry for what a push left there whose message is lost.
	StepResolve Step = "resolve"
)

// Exit codes that the Job's failure policy and the controller tell apart. They are sysexits(3)'s, so that no
// interpreter or kernel uses them for something else.
const (
	// ExitPermanent (EX_DATAERR): the same input would fail again, the job ends at once.
	ExitPermanent = 65
	// ExitPreempted (EX_TEMPFAIL): stopped from outside with a checkpoint on disk, not counted as a failure.
	ExitPreempted = 75
)

// Result is one container's termination message.
type Result struct {
	Version int  `json:"version"`
	Step    Step `json:"step"`
	// Reason is empty when the step succeeded, else one of the Reason constants of the API package.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Permanent says that another attempt with the same spec would fail the same way.
	Permanent bool   `json:"permanent,omitempty"`
	Fetch     *Fetch `json:"fetch,omitempty"`
	Train     *Train `json:"train,omitempty"`
	Push      *Push  `json:"push,omitempty"`
}

// Fetch is what was brought into the pod.
type Fetch struct {
	BaseModel    string `json:"baseModel,omitempty"`
	BaseRevision string `json:"baseRevision,omitempty"`
	// DatasetDigest is sha256 over the sorted names and digests of the dataset's files.
	DatasetDigest string `json:"datasetDigest,omitempty"`
	DatasetFormat string `json:"datasetFormat,omitempty"`
	DatasetSchema string `json:"datasetSchema,omitempty"`
	Rows          int64  `json:"rows,omitempty"`
	Bytes         int64  `json:"bytes,omitempty"`
	// TokensP50, TokensP95 and TokensMax are estimates, by the rule that TokenRule names.
	TokensP50 int64  `json:"tokensP50,omitempty"`
	TokensP95 int64  `json:"tokensP95,omitempty"`
	TokensMax int64  `json:"tokensMax,omitempty"`
	TokenRule string `json:"tokenRule,omitempty"`
}

// Train is where training stood when the container ended. Numbers that JSON cannot carry (NaN, infinities) are left
// out.
type Train struct {
	// FromStep is the step this attempt began at: 0, or the checkpoint it resumed from.
	FromStep   int64 `json:"fromStep"`
	Step       int64 `json:"step"`
	TotalSteps int64 `json:"totalSteps,omitempty"`
	// CheckpointStep is the last step that is safe on the checkpoint volume.
	CheckpointStep  int64    `json:"checkpointStep,omitempty"`
	Epoch           *float64 `json:"epoch,omitempty"`
	Loss            *float64 `json:"loss,omitempty"`
	LearningRate    *float64 `json:"learningRate,omitempty"`
	TokensPerSecond *float64 `json:"tokensPerSecond,omitempty"`
	// ElapsedSeconds of this attempt's training loop.
	ElapsedSeconds float64 `json:"elapsedSeconds,omitempty"`
}

// Line is one line of progress: what the runner and the trainer print, what a running step answers at GET /progress,
// and what the annotation tuning.kaito.sh/progress holds. Of the runner's lines only what the controller reads is here.
type Line struct {
	Time time.Time `json:"time"`
	Step Step      `json:"step"`
	// Bytes and TotalBytes are the runner's; TotalBytes is 0 while it is unknown.
	Bytes      int64 `json:"bytes,omitempty"`
	TotalBytes int64 `json:"totalBytes,omitempty"`
	// Train is the trainer's.
	Train *Train `json:"train,omitempty"`
}

// Push is where the adapter went.
type Push struct {
	// Image is the reference as it was asked for; empty when the output is a volume.
	Image  string `json:"image,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Path inside the output volume; empty when the output is an image.
	Path string `json:"path,omitempty"`
	// Size is the sum of the files in bytes.
	Size          int64  `json:"size,omitempty"`
	BaseModel     string `json:"baseModel,omitempty"`
	BaseRevision  string `json:"baseRevision,omitempty"`
	DatasetDigest string `json:"datasetDigest,omitempty"`
}

// ErrNotOurs is returned by Parse for text that is no message of this format: a stack trace, the tail of a log.
var ErrNotOurs = errors.New("not a termination message of a tuning pod")

// Parse reads a termination message. Anything else than version 1 of the format is ErrNotOurs, wrapped.
func Parse(text string) (Result, error) {
	var r Result
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNotOurs, err)
	}
	if r.Version != Version {
		return Result{}, fmt.Errorf("%w: version %d, this controller reads version %d", ErrNotOurs, r.Version, Version)
	}
	return r, nil
}

// Encode renders the message in at most MaxBytes: the text is shortened first, as the numbers are what is acted upon.
func (r Result) Encode() ([]byte, error) {
	r.Version = Version
	for {
		out, err := json.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("encoding the termination message: %w", err)
		}
		over := len(out) - MaxBytes
		if over <= 0 {
			return out, nil
		}
		if r.Message == "" {
			return nil, fmt.Errorf("termination message has %d bytes without its text, at most %d are kept", len(out), MaxBytes)
		}
		// JSON may need more bytes than the text has, so that the loop measures again.
		r.Message = excerpt.Head(r.Message, len(r.Message)-over)
	}
}

// Write puts the message where the kubelet looks for it. An empty path writes nothing: outside of a pod nobody reads
// it.
func (r Result) Write(path string) error {
	if path == "" {
		return nil
	}
	out, err := r.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, out, 0o644); err != nil { // read by the kubelet under another user
		return fmt.Errorf("writing the termination message: %w", err)
	}
	return nil
}
