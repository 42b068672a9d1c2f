// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/runner/dataset"
	"kaito.sh/tuning-operator/internal/runner/disk"
)

type fetchFlags struct {
	common
	model, modelRevision, modelImage, modelDir, modelName           string
	datasetURLs                                                     []string
	datasetImage, dataset, datasetRevision, datasetDir, datasetPath string
	columns                                                         dataset.Columns
	credentials                                                     []string
	checkPush                                                       string
	pushCredentials                                                 []string
	facts                                                           string
	maxBytes                                                        int64
	budget                                                          *disk.Budget
	parallel                                                        int
}

func fetchCommand(env Env, code *int) *cobra.Command {
	var f fetchFlags
	cmd := &cobra.Command{
		Use:   "fetch",
		Short: "Fetch a base model and a dataset into folders, and check the dataset",
		Long: `Fetch writes a base model (from HuggingFace at a pinned revision, or from an OCI image or artifact) and a dataset
(https URLs, an OCI image, a HuggingFace dataset, or the files that are already in the folder) to folders. It reads
every row of the dataset and fails at the first row that cannot be used for training.

HF_ENDPOINT is the URL of a mirror of HuggingFace. HF_TOKEN is a token for gated repositories.`,
		Example: `  runner fetch --model microsoft/Phi-3-mini-128k-instruct --model-dir ./model
  runner fetch --dataset-url https://example.com/train.parquet --dataset-dir ./data
  runner fetch --dataset-dir ./data                   # only look through it`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.validate(); err != nil {
				return err
			}
			*code = run(cmd.Context(), env, f.common, message.StepFetch, tuningv1alpha1.ReasonFetchFailed, f.work)
			return nil
		},
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.model, "model", "", "HuggingFace ID of the base model (organisation/name)")
	fl.StringVar(
		&f.modelRevision, "model-revision", "",
		"branch, tag or commit of the model; empty: main (pinned to its current commit)",
	)
	fl.StringVar(&f.modelImage, "model-image", "", "OCI image or artifact with the base model below /data")
	fl.StringVar(&f.modelDir, "model-dir", "", "folder for the base model")
	fl.StringVar(
		&f.modelName, "model-name", "", "name of the base model in the result, for a model from an image or a volume",
	)
	fl.StringArrayVar(&f.datasetURLs, "dataset-url", nil, "https URL of a data file (repeatable)")
	fl.StringVar(&f.datasetImage, "dataset-image", "", "OCI image or artifact with the dataset below /data")
	fl.StringVar(&f.dataset, "dataset", "", "HuggingFace ID of the dataset")
	fl.StringVar(&f.datasetRevision, "dataset-revision", "", "branch, tag or commit of the dataset; empty: main")
	fl.StringVar(
		&f.datasetDir, "dataset-dir", "", "folder for the dataset; without a dataset source, its files are checked",
	)
	fl.StringVar(&f.datasetPath, "dataset-path", "", "file or folder of the dataset to check; empty: all of it")
	fl.StringVar(&f.columns.Messages, "messages-column", "", "column with conversations")
	fl.StringVar(&f.columns.Prompt, "prompt-column", "", "column with prompts")
	fl.StringVar(&f.columns.Completion, "completion-column", "", "column with completions")
	fl.StringVar(&f.columns.Text, "text-column", "", "column with plain text")
	fl.StringArrayVar(&f.credentials, "credentials", nil, "docker config file for pulling images (repeatable)")
	fl.StringVar(
		&f.checkPush, "check-push", "", "image whose registry is asked for the permission to push before anything is fetched",
	)
	fl.StringArrayVar(&f.pushCredentials, "push-credentials", nil, "docker config file for --check-push (repeatable)")
	fl.StringVar(&f.facts, "facts", "", "file for a description of the fetched data as JSON, which push reads")
	fl.Int64Var(
		&f.maxBytes, "max-bytes", 0, "largest size in bytes of model and dataset together; 0: the free space of the disk",
	)
	fl.IntVar(&f.parallel, "parallel", 8, "concurrent range requests per file")
	return cmd
}

func (f *fetchFlags) validate() error {
	count := func(set ...bool) (n int) {
		for _, s := range set {
			if s {
				n++
			}
		}
		return n
	}
	models := count(f.model != "", f.modelImage != "")
	datasets := count(len(f.datasetURLs) > 0, f.datasetImage != "", f.dataset != "")
	switch {
	case models > 1:
		return fmt.Errorf("--model and --model-image are mutually exclusive")
	case datasets > 1:
		return fmt.Errorf("--dataset-url, --dataset-image and --dataset are mutually exclusive")
	case models == 1 && f.modelDir == "":
		return fmt.Errorf("--model-dir is required with a model")
	case datasets == 1 && f.datasetDir == "":
		return fmt.Errorf("--dataset-dir is required with a dataset")
	case models == 0 && f.datasetDir == "":
		return fmt.Errorf(
			"nothing to fetch: set --model, --model-image, --dataset-url, --dataset-image, --dataset or --dataset-dir",
		)
	case f.parallel < 1 || f.parallel > 64:
		return fmt.Errorf("--parallel: invalid value %d: use 1 to 64", f.parallel)
	case f.maxBytes < 0:
		return fmt.Errorf("--max-bytes: invalid value %d: use 0 or more", f.maxBytes)
	}
	return nil
}

// work does the cheapest checks first: a refused push or an invalid row ends it before the model is downloaded.
func (f *fetchFlags) work(ctx context.Context, s *session) (message.Result, error) {
	facts := &message.Fetch{BaseModel: f.modelName}
	f.budget = disk.NewBudget(f.maxBytes)
	if f.checkPush != "" {
		client, err := s.registry(f.pushCredentials)
		if err != nil {
			return message.Result{}, err
		}
		if err := client.CheckPush(ctx, f.checkPush); err != nil {
			return message.Result{}, err
		}
		s.progress.Event("push-allowed", f.checkPush, nil)
	}
	if f.datasetDir != "" {
		if err := f.fetchDataset(ctx, s, facts); err != nil {
			return message.Result{}, err
		}
	}
	if err := f.fetchModel(ctx, s, facts); err != nil {
		return message.Result{}, err
	}
	if err := writeFacts(f.facts, facts); err != nil {
		return message.Result{}, err
	}
	return message.Result{Fetch: facts}, nil
}

func writeFacts(path string, facts *message.Fetch) error {
	if path == "" {
		return nil
	}
	raw, err := json.Marshal(facts)
	if err != nil {
		return fmt.Errorf("encoding the facts: %w", err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil { // push reads it as another user
		return fmt.Errorf("writing the facts: %w", err)
	}
	return nil
}
