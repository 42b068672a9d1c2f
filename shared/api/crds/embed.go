// SPDX-License-Identifier: Apache-2.0

// Package crds holds the generated CustomResourceDefinitions of every kind, for tests and installers.
package crds

import "embed"

// FS holds one YAML file a kind, named <group>_<plural>.yaml.
//
//go:embed *.yaml
var FS embed.FS
