// SPDX-License-Identifier: Apache-2.0

package main

import "strings"

// layers are the packages of the workspace-operator, from the top down. A package imports only packages of lower
// layers.
var layers = [][]string{
	{"workspace", "plugin"},
	{"gpubudget"},
	{"watch"},
	{"engine/vllm"}, // chosen by the controller and the plugin; plan and serving know the interface only
	{"serving", "tuning", "foreign"},
	{"placement", "budget"},
	{"plan"},
	{"engine"},
	{"configfile", "lookup", "runbook", "gateway"},
}

const layered = "workspace-operator/internal/"

// upward returns whether a package of the workspace-operator imports one of its own layer or of a higher one.
func upward(folder, imported string) bool {
	from, ok := layerOf(folder)
	to, other := layerOf(strings.TrimPrefix(imported, "kaito.sh/"))
	return ok && other && folder != strings.TrimPrefix(imported, "kaito.sh/") && to <= from
}

func layerOf(folder string) (int, bool) {
	name, ok := strings.CutPrefix(folder, layered)
	if !ok {
		return 0, false
	}
	for i, names := range layers {
		for _, n := range names {
			if n == name {
				return i, true
			}
		}
	}
	return 0, false
}
