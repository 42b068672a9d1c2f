package main

import (
	"fmt"
	"slices"
	"strings"
)

// source is an image and where its one binary comes from.
type source struct {
	// name of the image; module and pkg of its main package.
	name, module, pkg string
	// binary is the file in the image and its entry point, the same as in the Dockerfiles. The simulated engine has the
	// name of the one that it stands for, by which pods call it.
	binary string
}

// sources are all images but the trainer's, which is Python and has a Dockerfile only.
var sources = []source{
	{name: "workspace-operator", module: "workspace-operator", pkg: "./cmd", binary: "manager"},
	{name: "gateway", module: "workspace-operator", pkg: "./cmd/gateway", binary: "gateway"},
	{name: "gpu-provisioner", module: "gpu-provisioner", pkg: "./cmd", binary: "manager"},
	{name: "tuning-operator", module: "tuning-operator", pkg: "./cmd", binary: "manager"},
	{name: "runner", module: "tuning-operator", pkg: "./cmd/runner", binary: "runner"},
	{name: "fakeazure", module: "e2e", pkg: "./cmd/fakeazure", binary: "fakeazure"},
	{name: "simengine", module: "e2e", pkg: "./cmd/simengine", binary: "vllm"},
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
