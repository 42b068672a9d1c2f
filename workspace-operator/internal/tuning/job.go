// SPDX-License-Identifier: Apache-2.0

package tuning

import (
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
)

// labelQueue is Kueue's: the tuning-operator copies it to the Job.
const labelQueue = "kueue.x-k8s.io/queue-name"

// Input is everything a TuningJob depends on.
type Input struct {
	Workspace *kaitov1alpha1.Workspace
	Labels    map[string]string
	Owner     metav1.OwnerReference
	// Revision pins the base model, so that what is tuned is what is served.
	Revision    string
	Nodes       int32
	GPUsPerNode int32
	// NodeSelector is labels that the Workspace's nodes have.
	NodeSelector map[string]string
}

// Job renders the TuningJob: the Workspace's name and namespace, owned by it. suspend is never set, so that a
// controller that suspends the job after its creation is not overruled.
func Job(in Input) *tuningv1alpha1.TuningJob {
	w, t := in.Workspace, in.Workspace.Tuning
	labels := maps.Clone(in.Labels)
	if queue := w.Labels[labelQueue]; queue != "" {
		labels[labelQueue] = queue
	}
	method := tuningv1alpha1.MethodLora
	if t.Method != "" {
		method = tuningv1alpha1.Method(strings.ToLower(string(t.Method)))
	}
	return &tuningv1alpha1.TuningJob{
		TypeMeta: metav1.TypeMeta{APIVersion: tuningv1alpha1.GroupVersion.String(), Kind: "TuningJob"},
		ObjectMeta: metav1.ObjectMeta{
			Name:            w.Name,
			Namespace:       w.Namespace,
			Labels:          labels,
			OwnerReferences: []metav1.OwnerReference{in.Owner},
		},
		Spec: tuningv1alpha1.TuningJobSpec{
			Model:  model(t.Preset, in.Revision),
			Method: method,
			Config: t.Config,
			Input:  source(t.Input),
			Output: destination(t.Output),
			Resources: tuningv1alpha1.ResourcesSpec{
				GPUsPerNode:  ptr.To(in.GPUsPerNode),
				Nodes:        ptr.To(in.Nodes),
				NodeSelector: maps.Clone(in.NodeSelector),
			},
		},
	}
}

func model(preset *kaitov1alpha1.PresetSpec, revision string) tuningv1alpha1.ModelSpec {
	if preset == nil {
		return tuningv1alpha1.ModelSpec{} // the schema refuses it before it comes here
	}
	name, _, _ := strings.Cut(preset.Name, "@")
	m := tuningv1alpha1.ModelSpec{Revision: revision}
	if strings.Contains(name, "/") {
		m.ID = name
	} else {
		m.Preset = name
	}
	if o := preset.PresetOptions; o != nil {
		m.AccessSecret = o.ModelAccessSecret
		if o.Image != "" {
			m.Source = &tuningv1alpha1.ModelSource{Image: o.Image, ImagePullSecrets: o.ImagePullSecrets}
		}
	}
	return m
}

func source(in *kaitov1alpha1.DataSource) tuningv1alpha1.Source {
	if in == nil {
		return tuningv1alpha1.Source{}
	}
	return tuningv1alpha1.Source{
		Name: in.Name, URLs: in.URLs, Image: in.Image, ImagePullSecrets: in.ImagePullSecrets,
		VolumeSource: in.VolumeSource.DeepCopy(), Dataset: in.Dataset,
	}
}

func destination(out *kaitov1alpha1.DataDestination) tuningv1alpha1.Destination {
	if out == nil {
		return tuningv1alpha1.Destination{}
	}
	return tuningv1alpha1.Destination{
		Image:           out.Image,
		ImagePushSecret: out.ImagePushSecret,
		VolumeSource:    out.VolumeSource.DeepCopy(),
	}
}
