// SPDX-License-Identifier: Apache-2.0

package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"kaito.sh/shared/excerpt"
)

// MaxBytes is the length to which the kubelet cuts the termination message of a container. Source: Kubernetes,
// "Customizing the termination message".
const MaxBytes = 4096

// Version is the version of the format. A reader refuses any other version.
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
	// StepTrust collects certificate authorities for an engine before it starts.
	StepTrust Step = "trust"
	// StepResolve asks the registry for the result of a push whose message was lost.
	StepResolve Step = "resolve"
)

// Exit codes that the Job's failure policy and the controller distinguish. They are those of sysexits(3), which no
// interpreter or kernel uses for other purposes.
const (
	// ExitPermanent (EX_DATAERR): the same input would fail again. The Job ends at once.
	ExitPermanent = 65
	// ExitPreempted (EX_TEMPFAIL): the step was interrupted and wrote a checkpoint. This is not counted as a failure.
	ExitPreempted = 75
)

// Result is one container's termination message.
type Result struct {
	Version int  `json:"version"`
	Step    Step `json:"step"`
	// Reason is empty if the step succeeded. Otherwise it is one of the Reason constants of the API package.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Permanent is true if another attempt with the same spec would fail in the same way.
	Permanent bool   `json:"permanent,omitempty"`
	Fetch     *Fetch `json:"fetch,omitempty"`
	Train     *Train `json:"train,omitempty"`
	Push      *Push  `json:"push,omitempty"`
}

// Fetch describes the fetched model and dataset.
type Fetch struct {
	BaseModel    string `json:"baseModel,omitempty"`
	BaseRevision string `json:"baseRevision,omitempty"`
	// DatasetDigest is the SHA-256 of the sorted names and digests of the dataset's files.
	DatasetDigest string `json:"datasetDigest,omitempty"`
	DatasetFormat string `json:"datasetFormat,omitempty"`
	DatasetSchema string `json:"datasetSchema,omitempty"`
	Rows          int64  `json:"rows,omitempty"`
	Bytes         int64  `json:"bytes,omitempty"`
	// TokensP50, TokensP95 and TokensMax are estimates by the rule that TokenRule names.
	TokensP50 int64  `json:"tokensP50,omitempty"`
	TokensP95 int64  `json:"tokensP95,omitempty"`
	TokensMax int64  `json:"tokensMax,omitempty"`
	TokenRule string `json:"tokenRule,omitempty"`
}

// Train is the state of the training at the end of the container. Numbers that JSON cannot represent (NaN, infinities)
// are omitted.
type Train struct {
	// FromStep is the step that this attempt began at: 0, or that of the checkpoint it resumed from.
	FromStep   int64 `json:"fromStep"`
	Step       int64 `json:"step"`
	TotalSteps int64 `json:"totalSteps,omitempty"`
	// CheckpointStep is the last step with a checkpoint.
	CheckpointStep  int64    `json:"checkpointStep,omitempty"`
	Epoch           *float64 `json:"epoch,omitempty"`
	Loss            *float64 `json:"loss,omitempty"`
	LearningRate    *float64 `json:"learningRate,omitempty"`
	TokensPerSecond *float64 `json:"tokensPerSecond,omitempty"`
	// ElapsedSeconds is the duration of the training loop of this attempt.
	ElapsedSeconds float64 `json:"elapsedSeconds,omitempty"`
}

// Line is a progress line. The runner and the trainer print it, a running step serves it at GET /progress, and the
// annotation tuning.kaito.sh/progress holds it. The runner's lines have more fields, which the controller does not
// read.
type Line struct {
	Time time.Time `json:"time"`
	Step Step      `json:"step"`
	// Bytes and TotalBytes are set by the runner. TotalBytes is 0 while it is unknown.
	Bytes      int64 `json:"bytes,omitempty"`
	TotalBytes int64 `json:"totalBytes,omitempty"`
	// Train is set by the trainer.
	Train *Train `json:"train,omitempty"`
}

// Push describes the pushed adapter.
type Push struct {
	// Image is the requested reference. It is empty if the output is a volume.
	Image  string `json:"image,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Path is the path in the output volume. It is empty if the output is an image.
	Path string `json:"path,omitempty"`
	// Size is the size of all files in bytes.
	Size          int64  `json:"size,omitempty"`
	BaseModel     string `json:"baseModel,omitempty"`
	BaseRevision  string `json:"baseRevision,omitempty"`
	DatasetDigest string `json:"datasetDigest,omitempty"`
	// ChatTemplate says that the adapter has the chat template that it was trained with.
	ChatTemplate bool `json:"chatTemplate,omitempty"`
}

// ErrNotOurs is the error of Parse for a text in another format, such as a stack trace or the end of a log.
var ErrNotOurs = errors.New("not a termination message of a tuning pod")

// Parse decodes a termination message. Its errors wrap ErrNotOurs.
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

// Encode returns the message as JSON of at most MaxBytes. It shortens the text, and keeps the fields that the
// controller reads.
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
			return nil, fmt.Errorf("termination message has %d bytes without its text: the limit is %d bytes", len(out), MaxBytes)
		}
		// The text may be longer as JSON, so that the loop measures again.
		r.Message = excerpt.Head(r.Message, len(r.Message)-over)
	}
}

// Write writes the message to the file that the kubelet reads. An empty path writes nothing: it means that the step
// runs outside of a pod.
func (r Result) Write(path string) error {
	if path == "" {
		return nil
	}
	out, err := r.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, out, 0o644); err != nil { // the kubelet reads it as another user
		return fmt.Errorf("writing the termination message: %w", err)
	}
	return nil
}
