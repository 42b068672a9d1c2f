// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kaito.sh/shared/test/cluster"
	"kaito.sh/shared/test/eventually"
)

const (
	// simulatedStep is how long the simulated trainer takes for a step, by its environment.
	simulatedStep = "SIM_STEP_TIME=10ms"
	// grace is what a container has after SIGTERM.
	grace = 5 * time.Second
	// hubName is the one that the quick start fetches from; as a mirror of it would, the stack's own hub answers.
	hubName = "https://huggingface.co"
)

// localPod runs the containers of a pod one after the other as processes of this machine: the pod's own arguments,
// environment, Secrets and volumes, with folders of this machine in the place of the mounts.
type localPod struct {
	stack  *Stack
	pod    *corev1.Pod
	folder string
}

// binaryOf is the program that stands for a container's image, by what the container calls.
func binaryOf(c corev1.Container) string {
	switch {
	case len(c.Command) > 0 && c.Command[0] == "python":
		return "simtrainer"
	case len(c.Command) > 0 && c.Command[0] == "vllm":
		return "simengine"
	case c.Name == "gateway":
		return "gateway"
	}
	return "runner"
}

// run returns how the containers fare, up to the first that fails.
func (p *localPod) run(ctx context.Context) (cluster.Outcome, error) {
	outcome := cluster.Outcome{}
	for _, c := range slices.Concat(p.pod.Spec.InitContainers, p.pod.Spec.Containers) {
		result, err := p.container(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", c.Name, err)
		}
		outcome[c.Name] = result
		if result.ExitCode != 0 {
			break
		}
	}
	return outcome, nil
}

func (p *localPod) container(ctx context.Context, c corev1.Container) (cluster.ContainerOutcome, error) {
	log := p.terminationLog()
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		return cluster.ContainerOutcome{}, fmt.Errorf("making the termination log: %w", err)
	}
	args, env, err := p.here(ctx, c)
	if err != nil {
		return cluster.ContainerOutcome{}, err
	}
	run := exec.CommandContext(ctx, p.stack.binary(binaryOf(c)), args...)
	run.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	run.Stdout, run.Stderr = &out, &out
	run.Cancel = func() error { return run.Process.Signal(syscall.SIGTERM) }
	run.WaitDelay = grace
	ended := run.Run()
	var exit *exec.ExitError
	if ended != nil && !errors.As(ended, &exit) {
		return cluster.ContainerOutcome{}, ended
	}
	message, err := os.ReadFile(log)
	if err != nil {
		return cluster.ContainerOutcome{}, fmt.Errorf("reading the termination log: %w", err)
	}
	if ended != nil {
		p.stack.say("job %s, container %s: %v\n%s", p.pod.Name, c.Name, ended, out.String())
	}
	return cluster.ContainerOutcome{
		After:    stepTime,
		ExitCode: int32(run.ProcessState.ExitCode()),
		Message:  string(message),
	}, nil //nolint:gosec // 0 to 255
}

func (p *localPod) terminationLog() string { return filepath.Join(p.folder, "termination-log") }

// here is a container's arguments and environment, with what they name as it is on this machine; more are further pairs
// of what to put in the place of what.
func (p *localPod) here(ctx context.Context, c corev1.Container, more ...string) (args, env []string, err error) {
	mounts, err := p.mounts(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	more = append(more, c.TerminationMessagePath, p.terminationLog(), hubName, "https://"+p.stack.outside.hub.Address())
	places := strings.NewReplacer(append(more, mounts...)...)
	for _, arg := range slices.Concat(c.Command[min(1, len(c.Command)):], c.Args) {
		args = append(args, places.Replace(undoubled(arg)))
	}
	env, err = p.environment(ctx, c, places)
	return args, env, err
}

// undoubled is what the kubelet makes of text in which nothing is to be expanded.
func undoubled(s string) string { return strings.ReplaceAll(s, "$$", "$") }

// environment is the container's, and what a process of this machine needs besides.
func (p *localPod) environment(ctx context.Context, c corev1.Container, places *strings.Replacer) ([]string, error) {
	out := []string{
		"SSL_CERT_FILE=" + p.stack.outside.authorities,
		"HF_ENDPOINT=https://" + p.stack.outside.hub.Address(),
		simulatedStep,
	}
	for _, e := range c.Env {
		value := places.Replace(undoubled(e.Value))
		if from := e.ValueFrom; from != nil && from.SecretKeyRef != nil {
			secret, err := p.secret(ctx, from.SecretKeyRef.Name)
			if err != nil {
				return nil, fmt.Errorf("environment variable %s: %w", e.Name, err)
			}
			value = string(secret.Data[from.SecretKeyRef.Key])
		}
		out = append(out, e.Name+"="+value)
	}
	// Each pod has its own network, but the processes share one: the progress ports would collide.
	return append(out, "KAITO_PROGRESS_PORT=0"), nil
}

// secret reads one of the pod's Secrets. As a kubelet does, it waits for an API server that is away for a moment.
func (p *localPod) secret(ctx context.Context, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	var failed error
	err := wait.PollUntilContextTimeout(
		ctx,
		eventually.StoryTick,
		eventually.Long,
		true,
		func(ctx context.Context) (bool, error) {
			failed = p.stack.Client.Get(ctx, client.ObjectKey{Namespace: p.pod.Namespace, Name: name}, secret)
			return failed == nil || apierrors.IsNotFound(failed), nil
		},
	)
	return secret, cmp.Or(failed, err)
}

// mounts are pairs of a path in the container and the folder here, the longest path first.
func (p *localPod) mounts(ctx context.Context, c corev1.Container) ([]string, error) {
	mounts := slices.Clone(c.VolumeMounts)
	slices.SortFunc(mounts, func(a, b corev1.VolumeMount) int { return len(b.MountPath) - len(a.MountPath) })
	out := []string{"--progress-address=:9400", "--progress-address=127.0.0.1:0"}
	for _, m := range mounts {
		i := slices.IndexFunc(p.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if i < 0 {
			return nil, fmt.Errorf("there is no volume %s", m.Name)
		}
		folder, err := p.volume(ctx, p.pod.Spec.Volumes[i])
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", m.Name, err)
		}
		out = append(out, m.MountPath, folder)
	}
	return out, nil
}

// volume is the folder of a volume; a claim's outlives the pod.
func (p *localPod) volume(ctx context.Context, v corev1.Volume) (string, error) {
	folder := filepath.Join(p.folder, v.Name)
	if claim := v.PersistentVolumeClaim; claim != nil {
		folder = filepath.Join(p.stack.dir, "claims", p.pod.Namespace, claim.ClaimName)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", fmt.Errorf("making its folder: %w", err)
	}
	if v.Image != nil {
		return folder, p.pull(ctx, v.Image.Reference, folder)
	}
	if v.Secret == nil {
		return folder, nil
	}
	secret, err := p.secret(ctx, v.Secret.SecretName)
	if apierrors.IsNotFound(err) && v.Secret.Optional != nil && *v.Secret.Optional {
		return folder, nil
	}
	if err != nil {
		return "", err
	}
	for _, item := range v.Secret.Items {
		if err := os.WriteFile(filepath.Join(folder, item.Path), secret.Data[item.Key], 0o600); err != nil {
			return "", fmt.Errorf("writing %s: %w", item.Path, err)
		}
	}
	return folder, nil
}

// pull brings an image's files into a folder, as a kubelet mounts it.
func (p *localPod) pull(ctx context.Context, reference, folder string) error {
	run := exec.CommandContext(
		ctx, p.stack.binary("runner"), "fetch", "--allow-private", "--model-image="+reference,
		"--model-dir="+filepath.Join(folder, "data"),
	)
	run.Env = append(os.Environ(), "SSL_CERT_FILE="+p.stack.outside.authorities)
	if out, err := run.CombinedOutput(); err != nil {
		return fmt.Errorf("pulling %s: %w: %s", reference, err, out)
	}
	return nil
}
