// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"strings"
)

// SchemaError is the error of Load for a document that does not match the schema.
type SchemaError struct {
	File    string // the embedded file, or "override N"
	Line    int    // counts from 1; 0 if the document is invalid YAML
	Field   string // path, for example models[3].layers
	Value   string // the invalid value
	Allowed string // the allowed values
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("catalogue %s, line %d: %s: invalid value %q, allowed: %s", e.File, e.Line, e.Field, e.Value, e.Allowed)
}

// UnknownModelError suggests the closest known names, best first.
type UnknownModelError struct {
	Name        string
	Suggestions []string
}

func (e *UnknownModelError) Error() string {
	return fmt.Sprintf("model %q is not in the catalogue%s", e.Name, didYouMean(e.Suggestions))
}

// UnknownSizeError suggests the closest known sizes, best first.
type UnknownSizeError struct {
	Name        string
	Suggestions []string
}

func (e *UnknownSizeError) Error() string {
	return fmt.Sprintf("instance type %q is not in the catalogue%s", e.Name, didYouMean(e.Suggestions))
}

// UnsupportedCapabilityError says that no engine supports a compute capability.
type UnsupportedCapabilityError struct {
	Capability ComputeCapability
	Minimum    ComputeCapability // the lowest that an engine of the catalogue supports
}

func (e *UnsupportedCapabilityError) Error() string {
	return fmt.Sprintf("no engine supports compute capability %s: the lowest supported one is %s", e.Capability, e.Minimum)
}

// PartitionError says that a size does not support a MIG profile.
type PartitionError struct {
	Size, Profile string
	Allowed       []string // empty if the GPU of the size has no MIG
}

func (e *PartitionError) Error() string {
	if len(e.Allowed) == 0 {
		return fmt.Sprintf(
			"the GPU of %s has no MIG profiles, so that %q cannot be used: remove resource.partition, or choose an A100, H100 or H200 size",
			e.Size, e.Profile,
		)
	}
	return fmt.Sprintf("MIG profile %q is not supported by %s, allowed: %s", e.Profile, e.Size, strings.Join(e.Allowed, ", "))
}

// ReferenceError says that a model reference is invalid.
type ReferenceError struct {
	Reference string
}

func (e *ReferenceError) Error() string {
	return fmt.Sprintf(
		"invalid model reference %q: use NAME, org/model or org/model@revision, where the revision is a commit, a branch or a tag",
		e.Reference,
	)
}

func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " (did you mean " + strings.Join(names, ", ") + "?)"
}
