// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	corev1 "k8s.io/api/core/v1"
)

// PodTemplate is a core/v1 PodTemplateSpec as the user wrote it.
type PodTemplate struct {
	// Raw is a JSON object.
	Raw []byte `json:"-"`
}

// NewPodTemplate returns the PodTemplate that decodes to t.
func NewPodTemplate(t corev1.PodTemplateSpec) *PodTemplate {
	return &PodTemplate{Raw: encode(t)}
}

// Decode returns the pod template. path names the field that holds it and starts the path in the error, for example
// "inference.template". The result shares no memory with p. A nil p decodes to nil. The error is an *InvalidError.
func (p *PodTemplate) Decode(path string) (*corev1.PodTemplateSpec, error) {
	if p == nil {
		return nil, nil
	}
	return decode[corev1.PodTemplateSpec](p.Raw, path, "a core/v1 PodTemplateSpec")
}

// MarshalJSON returns the JSON that the user wrote.
func (p PodTemplate) MarshalJSON() ([]byte, error) { return marshal(p.Raw), nil }

// UnmarshalJSON keeps a copy of data.
func (p *PodTemplate) UnmarshalJSON(data []byte) error {
	p.Raw = append([]byte(nil), data...)
	return nil
}
