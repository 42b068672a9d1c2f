// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/runner/fault"
	"kaito.sh/tuning-operator/internal/runner/pack"
	"kaito.sh/tuning-operator/internal/runner/registry"
)

type pushFlags struct {
	common
	from, to, toVolume string
	credentials        []string
	facts, trainResult string
	annotations        map[string]string
}

func pushCommand(env Env, code *int) *cobra.Command {
	var f pushFlags
	cmd := &cobra.Command{
		Use:   "push",
		Short: "Push an adapter as a mountable OCI image, or copy it to a volume",
		Long: `Push checks that a folder holds a complete PEFT adapter. It pushes the adapter to a registry, as an image with
/data/adapter_config.json and /data/adapter_model.safetensors, or copies it to a folder of a volume. The same adapter
gives the same digest. In an indexed job (JOB_COMPLETION_INDEX) only rank 0 pushes.`,
		Example: `  runner push --from ./adapter --to myregistry.azurecr.io/adapter:1.0 --credentials ~/.docker/config.json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (f.to == "") == (f.toVolume == "") {
				return fmt.Errorf("exactly one of --to and --to-volume is required")
			}
			*code = run(cmd.Context(), env, f.common, message.StepPush, tuningv1alpha1.ReasonPushFailed, f.work)
			return nil
		},
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.from, "from", "", "folder with the adapter (required)")
	fl.StringVar(&f.to, "to", "", "image to push (registry/repository:tag)")
	fl.StringVar(&f.toVolume, "to-volume", "", "folder to copy the adapter to")
	fl.StringArrayVar(&f.credentials, "credentials", nil, "docker config file (repeatable)")
	fl.StringVar(&f.facts, "facts", "", "file that fetch wrote: base model, revision and dataset digest become annotations")
	fl.StringVar(&f.trainResult, "train-result", "", "file with the trainer's result: its metrics become an annotation")
	fl.StringToStringVar(&f.annotations, "annotation", nil, "additional annotations of the image (key=value)")
	_ = cmd.MarkFlagRequired("from") // fails only for a flag that does not exist
	return cmd
}

func (f *pushFlags) work(ctx context.Context, s *session) (message.Result, error) {
	if rank := s.env.Getenv("JOB_COMPLETION_INDEX"); rank != "" && rank != "0" {
		s.progress.Event("skipped", "rank "+rank+" has nothing to push", nil)
		return message.Result{}, nil
	}
	if err := pack.CheckAdapter(f.from); err != nil {
		return message.Result{}, err
	}
	var facts message.Fetch
	if err := readJSON(f.facts, &facts); err != nil {
		return message.Result{}, err
	}
	annotations, err := f.describe(facts)
	if err != nil {
		return message.Result{}, err
	}
	img, err := pack.Build(f.from, annotations)
	if err != nil {
		return message.Result{}, err
	}
	push := &message.Push{
		Size:          img.Size,
		BaseModel:     facts.BaseModel,
		BaseRevision:  facts.BaseRevision,
		DatasetDigest: facts.DatasetDigest,
		ChatTemplate:  annotations[pack.AnnotationChatTemplate] != "",
	}
	if f.toVolume != "" {
		if err := copyFolder(f.from, f.toVolume); err != nil {
			return message.Result{}, err
		}
		push.Path, push.Digest = f.toVolume, img.Descriptor().Digest.String()
		s.progress.Event("copied", f.toVolume, map[string]any{"digest": push.Digest})
		return message.Result{Push: push}, nil
	}
	client, err := s.registry(f.credentials)
	if err != nil {
		return message.Result{}, err
	}
	push.Image = f.to
	if push.Digest, err = client.Push(ctx, f.to, img); err != nil {
		return message.Result{}, err
	}
	s.progress.Event("pushed", f.to, map[string]any{"digest": push.Digest, "size": push.Size})
	return message.Result{Push: push}, nil
}

// describe returns the annotations of the manifest. Except for the metrics of the run, they are the same for equal
// adapters.
func (f *pushFlags) describe(facts message.Fetch) (map[string]string, error) {
	out := map[string]string{pack.AnnotationKind: "adapter"}
	for key, value := range map[string]string{
		pack.AnnotationBaseModel: facts.BaseModel, pack.AnnotationBaseRevision: facts.BaseRevision,
		pack.AnnotationDatasetDigest: facts.DatasetDigest,
	} {
		if value != "" {
			out[key] = value
		}
	}
	if _, err := os.Stat(filepath.Join(f.from, pack.ChatTemplate)); err == nil {
		out[pack.AnnotationChatTemplate] = pack.ChatTemplate
	}
	var trained message.Result
	if err := readJSON(f.trainResult, &trained); err != nil {
		return nil, err
	}
	if t := trained.Train; t != nil {
		metrics := map[string]any{"steps": t.Step}
		if t.Loss != nil {
			metrics["loss"] = *t.Loss
		}
		if t.Epoch != nil {
			metrics["epoch"] = *t.Epoch
		}
		raw, err := json.Marshal(metrics)
		if err != nil {
			return nil, fmt.Errorf("encoding the metrics: %w", err)
		}
		out[pack.AnnotationMetrics] = string(raw)
	}
	for key, value := range f.annotations {
		out[key] = value
	}
	return out, nil
}

// readJSON reads a file of an earlier step. A missing file or an empty path is not an error.
func readJSON(path string, into any) error {
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fault.Permanent(tuningv1alpha1.ReasonOutputInvalid, "%s does not have the format of an earlier step: %w", path, err)
	}
	return nil
}

// copyFolder copies regular files, and adapter_config.json last: an engine that finds it finds the complete adapter.
func copyFolder(from, to string) error {
	var last []string
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if rel == pack.AdapterConfig {
			last = append(last, rel)
			return nil
		}
		return copyFile(p, filepath.Join(to, rel))
	})
	for _, rel := range last {
		if err == nil {
			err = copyFile(filepath.Join(from, rel), filepath.Join(to, rel))
		}
	}
	if err != nil {
		return fmt.Errorf("copying the adapter: %w", err)
	}
	return nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { // the engine reads it as another user
		return err
	}
	temp := to + ".part"
	out, err := os.Create(temp)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, to)
}

type packageFlags struct {
	common
	from, to    string
	credentials []string
	annotations map[string]string
}

func packageCommand(env Env, code *int) *cobra.Command {
	var f packageFlags
	cmd := &cobra.Command{
		Use:   "package",
		Short: "Push a model folder as a mountable OCI image",
		Long: `Package pushes a folder (weights, tokenizer, configuration) as an image with its files below /data, so that a registry
can store weights and a cluster can mount them. Each large file is a layer. Layers that the registry already has are not
sent again.`,
		Example: `  runner package --from ./Phi-3-mini-128k-instruct --to myregistry.azurecr.io/models/phi-3-mini:main --credentials ~/.docker/config.json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			*code = run(cmd.Context(), env, f.common, message.StepPush, tuningv1alpha1.ReasonPushFailed, f.work)
			return nil
		},
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.from, "from", "", "folder to package (required)")
	fl.StringVar(&f.to, "to", "", "image to push, registry/repository:tag (required)")
	fl.StringArrayVar(&f.credentials, "credentials", nil, "docker config file (repeatable)")
	fl.StringToStringVar(&f.annotations, "annotation", nil, "annotations of the image (key=value)")
	_ = cmd.MarkFlagRequired("from") // fails only for a flag that does not exist
	_ = cmd.MarkFlagRequired("to")   // fails only for a flag that does not exist
	return cmd
}

func (f *packageFlags) work(ctx context.Context, s *session) (message.Result, error) {
	annotations := map[string]string{pack.AnnotationKind: "model"}
	for key, value := range f.annotations {
		annotations[key] = value
	}
	client, err := s.registry(f.credentials)
	if err != nil {
		return message.Result{}, err
	}
	if err := registry.CheckReference(f.to); err != nil {
		return message.Result{}, err
	}
	img, err := pack.Build(f.from, annotations)
	if err != nil {
		return message.Result{}, err
	}
	digest, err := client.Push(ctx, f.to, img)
	if err != nil {
		return message.Result{}, err
	}
	s.progress.Event("pushed", f.to, map[string]any{"digest": digest, "size": img.Size})
	return message.Result{Push: &message.Push{Image: f.to, Digest: digest, Size: img.Size}}, nil
}
