// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"strings"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/workspace-operator/internal/engine"
	"kaito.sh/workspace-operator/internal/plan"
)

// Engine is how the engine serves the model.
type Engine struct {
	// Software is the inference engine that runs.
	Software engine.Engine
	Image    string
	// Model is a HuggingFace id; Revision its commit.
	Model, Revision string
	// Names under which the base model is served besides the Workspace's name.
	Names []string
	// OwnTemplate: the user names a chat template.
	OwnTemplate bool
	// Completions: the model has no chat template, so that /chat continues the prompt.
	Completions bool
	// Args are the flags of the plan.
	Args engine.Flags
	Env  map[string]string
	// GPUs is how many GPUs each pod takes.
	GPUs int64
	// Parallel: several processes serve, so they need shared memory.
	Parallel bool
	// CPUs and MemoryGiB are requested; 0: no request.
	CPUs, MemoryGiB int64
	// WeightsBytes is what is loaded before the engine answers.
	WeightsBytes int64
	// AccessSecret is the name of the Secret with the key HF_TOKEN. Optional.
	AccessSecret string
	// WeightsImage has the weights instead of HuggingFace; PullSecrets are used to pull it.
	WeightsImage string
	// WeightsArtifact: the image is an OCI artifact with one file a layer, which container runtimes do not mount.
	WeightsArtifact bool
	PullSecrets     []string
	// MaxLoraRank is the highest rank of the adapters.
	MaxLoraRank int
}

// Registries replace the registries that the catalogue names.
type Registries struct {
	// Engine has the images of engines; empty: the catalogue's registry.
	Engine string
	// Weights has the public weight images; empty: weights are downloaded from the model hub.
	Weights string
}

// NewEngine returns how the engine serves a plan.
func NewEngine(p *plan.Plan, w *kaitov1alpha1.Workspace, software engine.Engine, registries Registries) Engine {
	e := Engine{
		Software: software, Image: inRegistry(p.Engine.Image, registries.Engine),
		Model: p.Model.ID, Revision: p.Model.Revision, Args: p.Args, Env: p.Engine.Env, Completions: completions(p),
		OwnTemplate: p.OwnTemplate,
		GPUs:        int64(p.GPUsPerNode), Parallel: p.GPUsPerNode > 1,
		WeightsBytes: p.Model.WeightsBytes, MaxLoraRank: p.AdapterRank,
	}
	// Loading and tokenizing need CPU and memory in proportion to the GPUs. Half of the node's share leaves room for
	// system pods.
	if gpus := int64(p.Size.GPUs); gpus > 0 {
		e.CPUs = max(1, int64(p.Size.VCPUs)*e.GPUs/gpus/2)
		e.MemoryGiB = int64(p.Size.RAMGiB) * e.GPUs / gpus / 2
	}
	preset := plan.ServedPreset(w)
	if preset == nil {
		return e
	}
	name, _, pinned := strings.Cut(preset.Name, "@")
	// KAITO's name of a model is the last part of its id in small letters.
	e.Names = []string{name, p.Model.ID, strings.ToLower(p.Model.ID[strings.LastIndex(p.Model.ID, "/")+1:])}
	if o := preset.PresetOptions; o != nil {
		e.AccessSecret, e.WeightsImage, e.PullSecrets = o.ModelAccessSecret, o.Image, o.ImagePullSecrets
	}
	if e.WeightsImage == "" && !pinned && registries.Weights != "" {
		e.WeightsImage = inRegistry(p.Model.Image, registries.Weights)
		e.WeightsArtifact = e.WeightsImage != ""
	}
	return e
}

// inRegistry returns an image's name in another registry, which may have a path. An empty registry changes nothing.
func inRegistry(image, registry string) string {
	_, path, found := strings.Cut(image, "/")
	if !found || registry == "" {
		return image
	}
	return strings.TrimSuffix(registry, "/") + "/" + path
}

// completions says whether the engine has no chat template for the model: neither the model's own nor the user's.
func completions(p *plan.Plan) bool {
	_, given := p.Args["chat-template"]
	return p.Model.Engine.NoChatTemplate && !given
}
