// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"slices"

	"kaito.sh/workspace-operator/internal/engine"
)

// enginePort is where the engine listens, on localhost only.
const enginePort = 8000

// start returns how the engine's container is started.
func start(in Input) engine.Command {
	e := in.Engine
	s := engine.Server{
		Model: e.Model, Revision: e.Revision, Flags: e.Args, Names: servedNames(in), MaxLoraRank: e.MaxLoraRank,
		Host: "127.0.0.1", Port: enginePort, CacheDir: cacheDir,
	}
	if e.WeightsImage != "" {
		s.Model, s.Revision = weightsPath, ""
	}
	for _, a := range in.Adapters {
		s.Adapters = append(s.Adapters, engine.Adapter{Name: a.Name, Path: adapterPath(in, a)})
		if trainedTemplate(in, a) {
			s.ChatTemplate = adapterPath(in, a) + "/" + templateFile
		}
	}
	return e.Software.Command(s)
}

// templateFile is the name of the chat template in an adapter, which is that of transformers.
const templateFile = "chat_template.jinja"

// trainedTemplate says whether a server uses the chat template of an adapter: that of the tuned model, unless the user
// names another.
func trainedTemplate(in Input, a Adapter) bool {
	return a.ChatTemplate && a.Name == in.Tuned && !in.Engine.OwnTemplate
}

// servedNames of the base model: with a tuned model the Workspace's name is the adapter's.
func servedNames(in Input) []string {
	var out []string
	if in.Tuned == "" {
		out = append(out, in.Workspace.Name)
	}
	for _, name := range in.Engine.Names {
		if name != in.Workspace.Name && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		out = append(out, in.Workspace.Name+"-base")
	}
	return out
}
