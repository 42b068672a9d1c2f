// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/runner/pack"
)

type resolveFlags struct {
	common
	image       string
	credentials []string
}

func resolveCommand(env Env, code *int) *cobra.Command {
	var f resolveFlags
	cmd := &cobra.Command{
		Use:   "resolve",
		Short: "Read the digest and the origin of a pushed adapter from its registry",
		Long: `Resolve returns the result of the push of an adapter: its digest, its size, and its base model and dataset. It fetches only
the manifest.`,
		Example: `  runner resolve --image myregistry.azurecr.io/adapter:1.0 --credentials ~/.docker/config.json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			*code = run(cmd.Context(), env, f.common, message.StepResolve, tuningv1alpha1.ReasonSourceUnavailable, f.work)
			return nil
		},
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.image, "image", "", "pushed image (registry/repository:tag) (required)")
	fl.StringArrayVar(&f.credentials, "credentials", nil, "docker config file (repeatable)")
	_ = cmd.MarkFlagRequired("image") // fails only for a flag that does not exist
	return cmd
}

func (f *resolveFlags) work(ctx context.Context, s *session) (message.Result, error) {
	client, err := s.registry(f.credentials)
	if err != nil {
		return message.Result{}, err
	}
	found, err := client.Resolve(ctx, f.image)
	if err != nil {
		return message.Result{}, err
	}
	s.progress.Event("resolved", f.image, map[string]any{"digest": found.Digest, "size": found.Size})
	return message.Result{Push: &message.Push{
		Image: f.image, Digest: found.Digest, Size: found.Size,
		BaseModel: found.Annotations[pack.AnnotationBaseModel], BaseRevision: found.Annotations[pack.AnnotationBaseRevision],
		DatasetDigest: found.Annotations[pack.AnnotationDatasetDigest],
		ChatTemplate:  found.Annotations[pack.AnnotationChatTemplate] != "",
	}}, nil
}
