// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/resource"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/catalog/hub"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
)

// planFlags override fields of a Workspace: one from a file, or one that serves the model of the command line.
type planFlags struct {
	files         resource.FilenameOptions
	instanceTypes []string
	capacityTypes []string
	spot          bool
	count         int32
	mig           string
	slices        int32
	region        string
	context       int
	dtype         string
	quantization  string
	kvCacheDtype  string
	utilization   float64
	adapters      int
	method        string
	serve         bool
	sequence      int
	batch         int
	inferenceFile string
	trainingFile  string
	catalogs      []string
	hub           bool
	output        string
}

func (e *environment) planCommand() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan (MODEL | -f FILE)",
		Short: "Show the GPU sizes that a model can run on, with the memory arithmetic and the price",
		Long: `Show every GPU size that was considered for a model: the number of nodes and GPUs, the memory terms of
one GPU, the longest context, the price, and why a size was rejected. The planner is the operator's own: * marks the
size that it would create.

Needs no cluster: sizes, prices, models and engines come from the built-in catalogue. Existing nodes, which the
operator prefers, are not considered. The exit code is 1 if nothing fits.`,
		Example: `  # All sizes for a model, the chosen one first
  kubectl kaito plan phi-4-mini-instruct

  # A longer context, on spot nodes, in one region
  kubectl kaito plan llama-3.3-70b-instruct --context-length 65536 --spot --region eastus

  # Check whether it fits two nodes of this size
  kubectl kaito plan deepseek-r1-0528 --instance-type Standard_ND96isr_H100_v5 --count 2

  # Fine-tuning with QLoRA, and serving the tuned model
  kubectl kaito plan phi-4-mini-instruct --method qlora --max-seq-length 4096

  # What the operator would do with this file, which may contain ConfigMaps
  kubectl kaito plan -f examples/fine-tuning/kaito_workspace_tuning_phi_3.yaml -o json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeModels,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.plan(cmd, args, f)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVarP(
		&f.files.Filenames, "filename", "f", nil,
		"file, folder or URL with Workspaces and their ConfigMaps; - is the standard input",
	)
	flags.StringSliceVar(
		&f.instanceTypes, "instance-type", nil,
		"instance type; more than one are fallbacks in order (default: all of the catalogue)",
	)
	flags.StringSliceVar(
		&f.capacityTypes, "capacity-type", nil, "on-demand or spot; more than one are fallbacks in order (default on-demand)",
	)
	flags.BoolVar(&f.spot, "spot", false, "short for --capacity-type=spot")
	flags.Int32Var(&f.count, "count", 0, "maximum number of nodes (default: as many as needed)")
	flags.StringVar(&f.mig, "mig-profile", "", "MIG profile of the GPUs, for example 3g.40gb")
	flags.Int32Var(&f.slices, "gpus-per-node", 0, "number of GPUs of a node to use (default: all)")
	flags.StringVar(&f.region, "region", "", "Azure region of the prices (default: the cheapest region of each size)")
	flags.IntVar(&f.context, "context-length", 0, "required context length in tokens (default: the longest that fits)")
	flags.StringVar(
		&f.dtype, "dtype", "",
		"dtype of weights and activations: float16, bfloat16 (default: the model's, if the GPU supports it)",
	)
	flags.StringVar(
		&f.quantization, "quantization", "",
		"quantization of 16-bit weights while the engine loads them, for example fp8",
	)
	flags.StringVar(&f.kvCacheDtype, "kv-cache-dtype", "", "dtype of the key-value cache: auto, fp8")
	flags.Float64Var(
		&f.utilization, "gpu-memory-utilization", 0,
		"fraction of the GPU's memory that the engine may use (default: the catalogue's)",
	)
	flags.IntVar(&f.adapters, "adapters", 0, "number of LoRA adapters that are served with the model")
	flags.StringVar(&f.method, "method", "", "tuning method: lora or qlora (default: no tuning)")
	flags.BoolVar(&f.serve, "serve", true, "with --method: also plan serving the tuned model")
	flags.IntVar(&f.sequence, "max-seq-length", 0, "with tuning: sequence length in tokens (default 2048)")
	flags.IntVar(&f.batch, "batch-size", 0, "with tuning: sequences per GPU and step (default 1)")
	flags.StringVar(
		&f.inferenceFile, "inference-config", "",
		"inference_config.yaml file that replaces the ConfigMap of the Workspace",
	)
	flags.StringVar(
		&f.trainingFile, "training-config", "",
		"training_config.yaml file that replaces the ConfigMap of the Workspace",
	)
	flags.StringSliceVar(
		&f.catalogs, "catalog", nil, "file that overrides entries of the catalogue, like the operator's flag of this name",
	)
	flags.BoolVar(
		&f.hub, "hub", false,
		"read a model that is not in the catalogue from HuggingFace (HF_TOKEN, HF_ENDPOINT); this needs the network",
	)
	addOutput(cmd, &f.output, outputWide)
	complete(cmd, "capacity-type", catalog.CapacityOnDemand, catalog.CapacitySpot)
	complete(cmd, "method", string(kaitov1alpha1.MethodLora), string(kaitov1alpha1.MethodQLora))
	complete(cmd, "dtype", "bfloat16", "float16")
	if c, err := catalog.Load(); err == nil {
		var names []string
		for _, s := range c.Sizes() {
			names = append(names, s.Name)
		}
		complete(cmd, "instance-type", names...)
		complete(cmd, "quantization", c.InFlightQuantizations()...)
	}
	return cmd
}

func completeModels(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	c, err := catalog.Load()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, m := range c.Models() {
		names = append(names, m.ShortName(), m.ID)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (e *environment) plan(cmd *cobra.Command, args []string, f planFlags) error {
	c, err := loadCatalog(f.catalogs)
	if err != nil {
		return err
	}
	subjects, err := e.subjects(args, f)
	if err != nil {
		return err
	}
	var reports []planReport
	nothing := false
	for _, s := range subjects {
		if err := f.override(cmd, s); err != nil {
			return err
		}
		for _, st := range stages(s.workspace) {
			r := request(s, st, f.region)
			if err := f.resolve(cmd.Context(), c, &r); err != nil {
				return err
			}
			report := newPlanReport(s, st, r, c)
			nothing = nothing || !report.Feasible
			reports = append(reports, report)
		}
	}
	switch f.output {
	case "", outputWide:
		err = e.printPlans(reports, f.output == outputWide)
	default:
		err = e.encode(f.output, reports)
	}
	if err == nil && nothing {
		return &noError{}
	}
	return err
}

func loadCatalog(files []string) (*catalog.Catalog, error) {
	var documents [][]byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--catalog: %w", err)
		}
		documents = append(documents, text)
	}
	c, err := catalog.Load(documents...)
	if err != nil {
		return nil, fmt.Errorf("--catalog: %w", err)
	}
	return c, nil
}

// hubTimeout bounds all requests to the hub together, because a person waits for the answer.
const hubTimeout = time.Minute

// resolve reads a model that is not in the catalogue from the hub, if --hub is set.
func (f planFlags) resolve(ctx context.Context, c *catalog.Catalog, r *plan.Request) error {
	var unknown *catalog.UnknownModelError
	_, err := c.Model(r.Preset)
	if r.Mode == plan.ModeTemplate || !errors.As(err, &unknown) {
		return nil // the planner reports other errors of the name
	}
	ref, err := catalog.ParseReference(r.Preset)
	if err != nil || !ref.IsRepository() {
		return nil
	}
	if !f.hub {
		return fmt.Errorf("%w; if it is a repository on HuggingFace, read it with --hub", unknown)
	}
	ctx, cancel := context.WithTimeout(ctx, hubTimeout)
	defer cancel()
	m, err := hub.Client{
		HTTP:     http.DefaultClient,
		Endpoint: os.Getenv("HF_ENDPOINT"),
		Token:    os.Getenv("HF_TOKEN"),
	}.Model(ctx, c, ref)
	if err != nil {
		return err
	}
	r.Model = &m
	return nil
}

// override sets the fields of the Workspace that flags name.
func (f planFlags) override(cmd *cobra.Command, s *subject) error {
	w, given := s.workspace, cmd.Flags().Changed
	if given("instance-type") {
		w.Resource.InstanceType, w.Resource.InstanceTypes = "", f.instanceTypes
	}
	if f.spot {
		f.capacityTypes = append(f.capacityTypes, catalog.CapacitySpot)
	}
	if len(f.capacityTypes) > 0 {
		w.Resource.CapacityTypes = nil
	}
	for _, t := range f.capacityTypes {
		if t != catalog.CapacityOnDemand && t != catalog.CapacitySpot {
			return fmt.Errorf("--capacity-type is %q; allowed: %s, %s", t, catalog.CapacityOnDemand, catalog.CapacitySpot)
		}
		w.Resource.CapacityTypes = append(w.Resource.CapacityTypes, kaitov1alpha1.CapacityType(t))
	}
	if given("count") {
		w.Resource.Count = &f.count
	}
	if f.mig != "" || f.slices > 0 {
		p := &kaitov1alpha1.PartitionSpec{Profile: f.mig}
		if f.mig != "" {
			p.Mode = kaitov1alpha1.PartitionMIG
		}
		if f.slices > 0 {
			p.Count = &f.slices
		}
		w.Resource.Partition = p
	}
	return f.overrideConfigs(s)
}

func (f planFlags) overrideConfigs(s *subject) error {
	for _, c := range []struct {
		flag, file string
		into       *string
	}{{"inference-config", f.inferenceFile, &s.inferenceConfig}, {"training-config", f.trainingFile, &s.trainingConfig}} {
		if c.file == "" {
			continue
		}
		text, err := os.ReadFile(c.file)
		if err != nil {
			return fmt.Errorf("--%s: %w", c.flag, err)
		}
		*c.into = string(text)
	}
	engine, dataset, arguments := map[string]any{}, map[string]any{}, map[string]any{}
	set := func(into map[string]any, key string, value any, given bool) {
		if given {
			into[key] = value
		}
	}
	set(engine, "max-model-len", f.context, f.context != 0)
	set(engine, "dtype", f.dtype, f.dtype != "")
	set(engine, "quantization", f.quantization, f.quantization != "")
	set(engine, "kv-cache-dtype", f.kvCacheDtype, f.kvCacheDtype != "")
	set(engine, "gpu-memory-utilization", f.utilization, f.utilization != 0)
	set(dataset, "max_seq_length", f.sequence, f.sequence != 0)
	set(arguments, "per_device_train_batch_size", f.batch, f.batch != 0)
	var err error
	if s.inferenceConfig, err = setKeys(s.inferenceConfig, vllm.Section, engine); err != nil {
		return err
	}
	if s.trainingConfig, err = setKeys(s.trainingConfig, "DatasetConfig", dataset); err != nil {
		return err
	}
	s.trainingConfig, err = setKeys(s.trainingConfig, "TrainingArguments", arguments)
	return err
}

// forModel returns a Workspace that serves, or tunes and serves, the model of the command line.
func (f planFlags) forModel(model string) (*subject, error) {
	preset := &kaitov1alpha1.PresetSpec{Name: model}
	w := &kaitov1alpha1.Workspace{}
	switch strings.ToLower(f.method) {
	case "":
		w.Inference = &kaitov1alpha1.InferenceSpec{Preset: preset}
	case string(kaitov1alpha1.MethodLora), string(kaitov1alpha1.MethodQLora):
		w.Tuning = &kaitov1alpha1.TuningSpec{Preset: preset, Method: kaitov1alpha1.TuningMethod(strings.ToLower(f.method))}
		if !f.serve {
			w.Tuning.Serve = kaitov1alpha1.ServeNever
		}
	default:
		return nil, fmt.Errorf("--method is %q; allowed: lora, qlora", f.method)
	}
	if f.adapters < 0 || f.adapters > 10 {
		return nil, fmt.Errorf("--adapters is %d; allowed: 0 to 10", f.adapters)
	}
	if f.adapters > 0 {
		if w.Inference == nil {
			w.Inference = &kaitov1alpha1.InferenceSpec{Preset: preset}
		}
		w.Inference.Adapters = make([]kaitov1alpha1.AdapterSpec, f.adapters)
	}
	return &subject{workspace: w}, nil
}
