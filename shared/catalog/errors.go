// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"fmt"
	"strings"
)

// SchemaError is what Load answers to a document that does not fit the schema.
type SchemaError struct {
	File    string // the embedded file, or "override N"
	Line    int    // 1-based; 0 where the document could not be parsed at all
	Field   string // path, for example models[3].layers
	Value   string // what stands there
	Allowed string // what may stand there
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("catalogue %s, line %d: %s is %q, allowed: %s", e.File, e.Line, e.Field, e.Value, e.Allowed)
}

// UnknownModelError names the nearest names that are known, best first.
type UnknownModelError struct {
	Name        string
	Suggestions []string
}

func (e *UnknownModelError) Error() string {
	return fmt.Sprintf("model %q is not in the catalogue%s", e.Name, didYouMean(e.Suggestions))
}

// UnknownSizeError names the nearest sizes that are known, best first.
type UnknownSizeError struct {
	Name        string
	Suggestions []string
}

func (e *UnknownSizeError) Error() string {
	return fmt.Sprintf("instance type %q is not in the catalogue%s", e.Name, didYouMean(e.Suggestions))
}

// UnsupportedCapabilityError says that no engine serves a compute capability.
type UnsupportedCapabilityError struct {
	Capability ComputeCapability
	Minimum    ComputeCapability // the lowest that any engine of the catalogue serves
}

func (e *UnsupportedCapabilityError) Error() string {
	return fmt.Sprintf("no engine serves compute capability %s: the lowest served is %s", e.Capability, e.Minimum)
}

// PartitionError says why a MIG profile does not fit a size.
type PartitionError struct {
	Size, Profile string
	Allowed       []string // empty where the size's GPU cannot be partitioned
}

func (e *PartitionError) Error() string {
	if len(e.Allowed) == 0 {
		return fmt.Sprintf(
			"the GPU of %s has no MIG profiles, so %q cannot be used on it: leave resource.partition out or choose an A100, H100 or H200 size",
			e.Size, e.Profile,
		)
	}
	return fmt.Sprintf("MIG profile %q is none of %s, allowed: %s", e.Profile, e.Size, strings.Join(e.Allowed, ", "))
}

// ReferenceError is answered to org/model@revision where the revision cannot be one.
type ReferenceError struct {
	Reference string
}

func (e *ReferenceError) Error() string {
	return fmt.Sprintf(
		"model reference %q: want NAME, org/model or org/model@revision, where the revision is a commit, a branch or a tag",
		e.Reference,
	)
}

func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " (did you mean " + strings.Join(names, ", ") + "?)"
}
