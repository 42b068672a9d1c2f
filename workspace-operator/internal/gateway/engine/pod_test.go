// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/shared/test/process"
	"kaito.sh/workspace-operator/internal/engine/vllm"
	"kaito.sh/workspace-operator/internal/plan"
	"kaito.sh/workspace-operator/internal/serving"
)

// rendered is a server as the operator plans and renders it. The model's weights are in an image, in whose place the
// test puts a small model.
func rendered(t *testing.T, preset, size string, nodes int, config string, adapters ...string) corev1.PodTemplateSpec {
	t.Helper()
	c, err := catalog.Load()
	require.NoError(t, err)
	p, err := plan.Make(plan.Request{
		Mode: plan.ModeInference, Preset: preset, InstanceTypes: []string{size}, Count: &nodes, InferenceConfig: config,
		Adapters: len(adapters), AdapterRank: 16,
	}, c, vllm.Engine{})
	require.NoError(t, err)
	w := &kaitov1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: model, Namespace: "ns"},
		Inference: &kaitov1alpha1.InferenceSpec{Preset: &kaitov1alpha1.PresetSpec{
			Name: preset, PresetOptions: &kaitov1alpha1.PresetOptions{Image: "example.com/weights:1"},
		}},
	}
	in := serving.Input{
		Workspace: w, Placement: serving.Placement{Nodes: int32(p.Nodes)},
		Engine: serving.NewEngine(p, w, vllm.Engine{}, serving.Registries{}),
	}
	for _, name := range adapters {
		in.Adapters = append(in.Adapters, serving.Adapter{Name: name, Image: "example.com/" + name + ":1"})
	}
	if set, ok := serving.Render(in).(*appsv1.StatefulSet); ok {
		return set.Spec.Template
	}
	return serving.Deployment(in).Spec.Template
}

// kubelet runs the containers of pods as processes of this machine. What is mounted in a container is a folder of the
// pod, and `vllm` is the real one.
type kubelet struct {
	folder   string
	launcher *process.Launcher
}

func newKubelet(t *testing.T) *kubelet {
	t.Helper()
	if *python == "" {
		t.Skip("no vLLM: make test-engine has one")
	}
	k := &kubelet{folder: t.TempDir()}
	var err error
	k.launcher, err = process.NewLauncher(k.folder)
	require.NoError(t, err)
	t.Cleanup(k.launcher.Close)
	k.install(t)
	return k
}

// install builds our programs, and has `vllm` found by its name. The build for CPUs is a package of another name; the
// command looks for its version under its own.
func (k *kubelet) install(t *testing.T) {
	t.Helper()
	for _, program := range []string{"gateway", "ranks"} {
		build := exec.Command("go", "build", "-o", filepath.Join(k.folder, "bin", program), "kaito.sh/workspace-operator/cmd/"+program)
		out, err := build.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	interpreter, err := filepath.Abs(*python)
	require.NoError(t, err)
	k.write(t, "bin/vllm", fmt.Sprintf("#!/bin/sh\nexec %s -m vllm.entrypoints.cli.main \"$@\"\n", interpreter), 0o755)
	k.write(t, "python/vllm-0.32.0+cpu.dist-info/METADATA", "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n", 0o644)
}

func (k *kubelet) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(k.folder, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), mode))
}

// make runs model.py; the folder is below the kubelet's.
func (k *kubelet) make(t *testing.T, folder string, args ...string) {
	t.Helper()
	out, err := exec.Command(*python, append([]string{"model.py", filepath.Join(k.folder, folder)}, args...)...).CombinedOutput()
	require.NoError(t, err, string(out))
}

// templates writes the chat templates that the pod's arguments name. They are a part of the engine's image.
func (k *kubelet) templates(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	for _, arg := range pod.Containers[0].Args {
		if path, named := strings.CutPrefix(arg, "--chat-template=/"); named {
			k.write(t, path, "{% for m in messages %}{{ m['content'] }} {% endfor %}", 0o600)
		}
	}
}

// spec is a container as a process. The environment variables are those of the pod; own are further ones of the test's.
func (k *kubelet) spec(pod string, c corev1.Container, own ...string) process.Spec {
	env := append([]string{
		"PATH=" + filepath.Join(k.folder, "bin") + ":" + os.Getenv("PATH"),
		"PYTHONPATH=" + filepath.Join(k.folder, "python"),
		"HF_HUB_OFFLINE=1", "OMP_NUM_THREADS=1", "VLLM_CPU_KVCACHE_SPACE=1",
	}, own...)
	replace := k.translation(pod, c, own)
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			env = append(env, e.Name+"="+replace(e.Value))
		}
	}
	var words []string
	for _, word := range slices.Concat(c.Command, c.Args) {
		words = append(words, replace(word))
	}
	if len(c.Command) == 0 { // the image's entry point
		words = append([]string{filepath.Join(k.folder, "bin", c.Name)}, words...)
	}
	path := words[0]
	if _, err := os.Stat(path); err != nil { // it is in the image
		path = filepath.Join(k.folder, "bin", filepath.Base(path))
	}
	return process.Spec{Name: pod + "-" + c.Name, Binary: path, Args: words[1:], Env: env}
}

// translation replaces what a kubelet expands, the folders that it mounts, and names that a cluster's DNS knows.
func (k *kubelet) translation(pod string, c corev1.Container, own []string) func(string) string {
	var pairs []string
	for _, e := range own {
		name, value, _ := strings.Cut(e, "=")
		pairs = append(pairs, "$("+name+")", value)
	}
	mounts := slices.Clone(c.VolumeMounts)
	slices.SortFunc(mounts, func(a, b corev1.VolumeMount) int { return cmp.Compare(len(b.MountPath), len(a.MountPath)) })
	for _, m := range mounts {
		folder := filepath.Join(k.folder, m.Name)
		if m.Name == "cache" {
			folder = filepath.Join(k.folder, pod, m.Name)
		}
		pairs = append(pairs, m.MountPath, folder)
	}
	pairs = append(
		pairs,
		model+"-0."+model+"-peers.ns.svc", process.Loopback,
		"/vllm-workspace/", k.folder+"/vllm-workspace/", // a folder of the image
		"/dev/termination-log", filepath.Join(k.folder, pod+"-"+c.Name+".message"),
	)
	return strings.NewReplacer(pairs...).Replace
}

// container is a process that is started again when it has ended.
type container struct {
	spec process.Spec

	mu       sync.Mutex
	current  *process.Process
	restarts int
}

// run starts a container, and starts it again when it ends, until the test ends.
func (k *kubelet) run(t *testing.T, spec process.Spec) *container {
	t.Helper()
	c := &container{spec: spec}
	require.NoError(t, c.start(k.launcher))
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stopped:
				return
			case <-c.process().Ended():
			}
			select {
			case <-stopped:
				return
			default:
			}
			if err := c.start(k.launcher); err != nil {
				t.Errorf("starting %s again: %v", spec.Name, err)
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stopped)
		<-done
		if t.Failed() {
			t.Logf("the log of %s ends:\n%s", spec.Name, c.process().Tail())
		}
		_ = c.process().Stop() // it may be gone already
	})
	return c
}

func (c *container) start(launcher *process.Launcher) error {
	p, err := launcher.Start(c.spec)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		c.restarts++
	}
	c.current = p
	return nil
}

func (c *container) process() *process.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

func (c *container) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restarts
}

// child returns the number of the process that the container's process has started, by any of its threads.
func (c *container) child(t *testing.T) int {
	t.Helper()
	pid := c.process().PID()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	require.NoError(t, err)
	var found []string
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err == nil { // a thread may have ended
			found = append(found, strings.Fields(string(text))...)
		}
	}
	require.Len(t, found, 1, "the children of process %d", pid)
	number, err := strconv.Atoi(found[0])
	require.NoError(t, err)
	return number
}
