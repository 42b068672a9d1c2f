// SPDX-License-Identifier: Apache-2.0

package tuningjob

import (
	"flag"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"kaito.sh/shared/trust"
	"kaito.sh/tuning-operator/internal/job"
)

// ClassNone is the value of Options.CheckpointClass that creates no volume claims.
const ClassNone = "none"

// defaultProgressInterval bounds the age of the progress in a status. Each change is one write per TuningJob.
const defaultProgressInterval = 15 * time.Second

// Options are the settings of the operator.
type Options struct {
	Job job.Options
	// CheckpointClass is the storage class of volume claims for checkpoints. Empty: the default class of the cluster, or
	// the pod's own disk if there is none. ClassNone: always the pod's own disk.
	CheckpointClass string
	// ProgressInterval is the time between two progress requests to a running pod. 0 sends none.
	ProgressInterval time.Duration
}

// AddFlags adds one flag for each option.
func (o *Options) AddFlags(fs *flag.FlagSet) {
	fs.StringVar(
		&o.Job.RunnerImage, "runner-image", "", "image of the runner, which fetches sources and pushes adapters (required)",
	)
	fs.StringVar(&o.Job.TrainerImage, "trainer-image", "", "image of the trainer (required)")
	fs.BoolVar(
		&o.Job.AllowPrivateSources, "allow-private-sources", false,
		"permission for TuningJobs to fetch from private, loopback and link-local addresses, and over http",
	)
	fs.StringVar(
		&o.Job.ModelHub, "model-hub", "",
		"URL of the model hub, HuggingFace or a mirror of it; empty: https://huggingface.co",
	)
	fs.StringVar(&o.Job.Authorities, "ca-config-map", "", trust.Usage)
	fs.StringVar(
		&o.CheckpointClass, "checkpoint-storage-class", "",
		"storage class of volume claims for checkpoints; empty: the default class of the cluster, or the pod's own disk if there is none; "+ClassNone+": always the pod's own disk",
	)
	fs.StringVar(&o.Job.CheckpointSize, "checkpoint-size", "20Gi", "size of volume claims for checkpoints")
	fs.DurationVar(
		&o.ProgressInterval, "progress-interval", defaultProgressInterval,
		"time between two progress requests to a running pod; 0: no requests",
	)
}

// Validate returns an error that names the first invalid option.
func (o *Options) Validate() error {
	for _, image := range []struct{ flag, value string }{
		{"--runner-image", o.Job.RunnerImage}, {"--trainer-image", o.Job.TrainerImage},
	} {
		if image.value == "" {
			return fmt.Errorf("%s is empty: set it to the image of the operator's version", image.flag)
		}
	}
	if _, err := resource.ParseQuantity(o.Job.CheckpointSize); err != nil {
		return fmt.Errorf("--checkpoint-size: invalid value %q: use a quantity such as 20Gi: %w", o.Job.CheckpointSize, err)
	}
	return nil
}
