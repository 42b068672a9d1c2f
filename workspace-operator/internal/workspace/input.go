// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	corev1 "k8s.io/api/core/v1"

	"kaito.sh/workspace-operator/internal/engine"
	"kaito.sh/workspace-operator/internal/placement"
	"kaito.sh/workspace-operator/internal/serving"
)

// inputBuilder makes what a server is rendered from.
type inputBuilder struct {
	engine      engine.Engine
	images      serving.Images
	registries  serving.Registries
	authorities string
	// modelHub is where engines download models from; empty: HuggingFace.
	modelHub string
	// canMountImages returns whether all the nodes can mount images.
	canMountImages func([]corev1.Node) bool
}

// build returns the input of the plan of this pass. The error is a *serving.SpecError or an *embedded.InvalidError.
func (b inputBuilder) build(s *scope) (serving.Input, error) {
	in := surroundings(s)
	var err error
	if in.Template, err = serving.TemplateOf(s.workspace); err != nil {
		return in, err
	}
	in.Hash = inputsOf(s, s.chosen)
	in.Placement.Nodes = s.chosen.Nodes
	if s.stage == stageServe {
		in.Engine = serving.NewEngine(s.plan, s.workspace, b.engine, b.registries)
	}
	in.Images, in.Authorities, in.ModelHub = b.images, b.authorities, b.modelHub
	in.ImageVolumes = b.canMountImages(s.nodes)
	in.APIKeySecret = s.workspace.Annotations[serving.AnnotationAPIKeys]
	if len(s.own) == 0 {
		in.Placement.Selector = s.nodeLabels()
		return in, serving.AddAdapters(s.workspace, &in)
	}
	for _, n := range s.nodes {
		in.Placement.Names = append(in.Placement.Names, hostname(n))
	}
	return in, serving.AddAdapters(s.workspace, &in)
}

// surroundings returns the input of the objects beside a server, which depend on neither engine nor images.
func surroundings(s *scope) serving.Input {
	w := s.workspace
	in := serving.Input{
		Workspace: w, Labels: placement.OwnerLabels(w), Owner: s.owner(), Releasing: s.releasing(), Public: serving.Public(w),
	}
	if p := s.planStatus(); p != nil {
		in.Placement.Nodes = p.Nodes
	}
	if s.hasTemplate() {
		in.Template = &corev1.PodTemplateSpec{} // its content does not matter here
	}
	return in
}

// hostname returns the label by which node affinity selects a node.
func hostname(n corev1.Node) string {
	if h := n.Labels[corev1.LabelHostname]; h != "" {
		return h
	}
	return n.Name
}
