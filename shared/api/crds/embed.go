// SPDX-License-Identifier: Apache-2.0

package crds

import "embed"

// FS holds one YAML file per kind, named <group>_<plural>.yaml.
//
//go:embed *.yaml
var FS embed.FS
