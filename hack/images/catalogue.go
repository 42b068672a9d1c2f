// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
)

// source is an image and where its programs come from.
type source struct {
	// name of the image, and the module that its programs are packages of.
	name, module string
	// programs are what it holds; the first is its entry point.
	programs []program
}

// program is a main package and the file in the image, the same as in the Dockerfiles.
type program struct{ pkg, file string }

// sources are all images but the trainer's, which is Python and has a Dockerfile only. The simulated engine and trainer
// have the names of the programs that they stand for, by which pods call them.
var sources = []source{
	{"workspace-operator", "workspace-operator", []program{{"./cmd", "manager"}}},
	{"gateway", "workspace-operator", []program{{"./cmd/gateway", "gateway"}, {"./cmd/ranks", "ranks"}}},
	{"gpu-provisioner", "gpu-provisioner", []program{{"./cmd", "manager"}}},
	{"tuning-operator", "tuning-operator", []program{{"./cmd", "manager"}}},
	{"runner", "tuning-operator", []program{{"./cmd/runner", "runner"}}},
	{"fakeazure", "e2e", []program{{"./cmd/fakeazure", "fakeazure"}}},
	{"simengine", "e2e", []program{{"./cmd/simengine", "vllm"}}},
	{"simtrainer", "e2e", []program{{"./cmd/simtrainer", "python"}}},
	{"sources", "e2e", []program{{"./cmd/sources", "sources"}}},
	{"ask", "e2e", []program{{"./cmd/ask", "ask"}}},
}

func names() []string {
	var out []string
	for _, s := range sources {
		out = append(out, s.name)
	}
	return out
}

// choose returns the images by name, all when none is named.
func choose(wanted []string) ([]source, error) {
	if len(wanted) == 0 {
		return sources, nil
	}
	var chosen []source
	for _, name := range wanted {
		i := slices.Index(names(), name)
		if i < 0 {
			return nil, fmt.Errorf("there is no image %q; there are %s", name, strings.Join(names(), ", "))
		}
		chosen = append(chosen, sources[i])
	}
	return chosen, nil
}
