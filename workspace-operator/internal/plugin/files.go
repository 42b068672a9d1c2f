// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/resource"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// Keys of the ConfigMaps of a Workspace.
const (
	keyInferenceConfig = "inference_config.yaml"
	keyTrainingConfig  = "training_config.yaml"
)

// subjects returns the Workspaces to plan: those of the files, or one for the model of the command line.
func (e *environment) subjects(args []string, f planFlags) ([]*subject, error) {
	switch {
	case len(args) == 0 && len(f.files.Filenames) == 0:
		return nil, fmt.Errorf("name a model, or a file with a Workspace with -f; see the examples of %s plan --help", kubectl)
	case len(args) > 0 && len(f.files.Filenames) > 0:
		return nil, errors.New("name a model or a file with -f, not both")
	case len(args) > 0:
		s, err := f.forModel(args[0])
		if err != nil {
			return nil, err
		}
		return []*subject{s}, nil
	case f.method != "" || f.adapters != 0:
		return nil, errors.New("--method and --adapters need a model on the command line; with -f they come from the Workspace")
	}
	infos, err := e.read(f.files)
	if err != nil {
		return nil, err
	}
	return subjectsOf(infos)
}

// read reads manifests without contacting a cluster.
func (e *environment) read(files resource.FilenameOptions) ([]*unstructured.Unstructured, error) {
	b := resource.NewLocalBuilder().Unstructured().Local()
	if i := slices.Index(files.Filenames, "-"); i >= 0 {
		files.Filenames = slices.Delete(slices.Clone(files.Filenames), i, i+1)
		b = b.Stream(e.In, "standard input")
	}
	if len(files.Filenames) > 0 {
		b = b.FilenameParam(false, &files)
	}
	infos, err := b.Flatten().Do().Infos()
	if err != nil {
		return nil, fmt.Errorf("reading -f: %w", err)
	}
	var out []*unstructured.Unstructured
	for _, info := range infos {
		if u, ok := info.Object.(*unstructured.Unstructured); ok {
			out = append(out, u)
		}
	}
	return out, nil
}

func subjectsOf(objects []*unstructured.Unstructured) ([]*subject, error) {
	configs := map[string]*corev1.ConfigMap{}
	var out []*subject
	for _, u := range objects {
		gvk := u.GroupVersionKind()
		switch {
		case gvk.Group == "" && gvk.Kind == "ConfigMap":
			cm := &corev1.ConfigMap{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, cm); err != nil {
				return nil, fmt.Errorf("reading ConfigMap %s: %w", u.GetName(), err)
			}
			configs[cm.Namespace+"/"+cm.Name] = cm
		case gvk.Group == kaitov1alpha1.GroupVersion.Group && gvk.Kind == "Workspace":
			// Both versions have one schema. Strict decoding reports misspelled fields.
			w := &kaitov1alpha1.Workspace{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, w, true); err != nil {
				return nil, fmt.Errorf("reading Workspace %s: %w", u.GetName(), err)
			}
			out = append(out, &subject{workspace: w})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("reading -f: the files have no Workspace (kaito.sh/v1alpha1 or v1beta1)")
	}
	for _, s := range out {
		s.readConfigs(configs)
	}
	return out, nil
}

// readConfigs reads the ConfigMaps of the Workspace from the files. It adds a note for each missing one.
func (s *subject) readConfigs(configs map[string]*corev1.ConfigMap) {
	w := s.workspace
	find := func(field, name, key, flag string, into *string) {
		if name == "" {
			return
		}
		if cm := configs[w.Namespace+"/"+name]; cm != nil {
			if text, has := cm.Data[key]; has {
				*into = text
				return
			}
		}
		s.notes = append(
			s.notes,
			fmt.Sprintf(
				"%s names the ConfigMap %s, but the files do not have its key %s: planned without it; add its file with -f, or the text with --%s",
				field, name, key, flag,
			),
		)
	}
	if w.Inference != nil {
		find("inference.config", w.Inference.Config, keyInferenceConfig, "inference-config", &s.inferenceConfig)
	}
	if w.Tuning != nil {
		find("tuning.config", w.Tuning.Config, keyTrainingConfig, "training-config", &s.trainingConfig)
	}
	if w.Resource.Provisioning == kaitov1alpha1.ProvisioningNever {
		s.notes = append(
			s.notes,
			"resource.provisioning is Never: the operator plans for existing nodes, this command for the sizes of the catalogue; set theirs with --instance-type",
		)
	}
	if w.Resource.Count != nil && *w.Resource.Count == 0 {
		s.notes = append(s.notes, "resource.count is 0: the operator creates nothing; set --count to plan for nodes")
	}
}
