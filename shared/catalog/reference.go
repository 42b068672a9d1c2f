// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"regexp"
	"strings"
)

// Reference is a parsed model reference.
type Reference struct {
	Name     string // a catalogue name, an alias or org/model, without the revision
	Revision string // empty: the catalogue's, or the repository's default branch
}

// revisions matches commits, branches and tags. It excludes `..` and a leading dash, which are unsafe in URLs and
// command lines.
var revisionPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$`)

// ParseReference parses NAME, org/model or org/model@revision. The error is a *ReferenceError.
func ParseReference(s string) (Reference, error) {
	s = strings.TrimSpace(s)
	name, revision, pinned := strings.Cut(s, "@")
	if !namePattern.MatchString(name) ||
		pinned && (!revisionPattern.MatchString(revision) || strings.Contains(revision, "..")) {
		return Reference{}, &ReferenceError{Reference: s}
	}
	return Reference{Name: name, Revision: revision}, nil
}

// IsRepository returns whether the name is org/model and not a short name.
func (r Reference) IsRepository() bool { return strings.Contains(r.Name, "/") }
