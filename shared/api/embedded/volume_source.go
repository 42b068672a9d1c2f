// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	corev1 "k8s.io/api/core/v1"
)

// VolumeSource is a core/v1 VolumeSource as the user wrote it.
type VolumeSource struct {
	// Raw is a JSON object.
	Raw []byte `json:"-"`
}

// NewVolumeSource returns the VolumeSource that decodes to s.
func NewVolumeSource(s corev1.VolumeSource) *VolumeSource {
	return &VolumeSource{Raw: encode(s)}
}

// Decode returns the volume source. path names the field that holds it and starts the path in the error, for example
// "spec.input.volumeSource". The result shares no memory with s. A nil s decodes to nil. The error is an *InvalidError.
func (s *VolumeSource) Decode(path string) (*corev1.VolumeSource, error) {
	if s == nil {
		return nil, nil
	}
	return decode[corev1.VolumeSource](s.Raw, path, "a core/v1 VolumeSource")
}

// MarshalJSON returns the JSON that the user wrote.
func (s VolumeSource) MarshalJSON() ([]byte, error) { return marshal(s.Raw), nil }

// UnmarshalJSON keeps a copy of data.
func (s *VolumeSource) UnmarshalJSON(data []byte) error {
	s.Raw = append([]byte(nil), data...)
	return nil
}
