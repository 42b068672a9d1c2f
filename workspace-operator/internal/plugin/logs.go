// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"kaito.sh/workspace-operator/internal/serving"
)

type logFlags struct {
	follow, previous, tuning, all, timestamps bool
	container                                 string
	tail                                      int64
	since                                     time.Duration
}

func (e *environment) logsCommand() *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:   "logs WORKSPACE",
		Short: "Print the logs of the serving pods or the tuning job",
		Long: `Print the logs of the serving pods of a Workspace, or of its tuning job if it has no serving pods. The
default container is the engine, and for a tuning job the step that runs or ran last (fetch, train, push).
--container selects another one (gateway).`,
		Example: `  kubectl kaito logs phi-4-mini -f
  kubectl kaito logs phi-4-mini --previous
  kubectl kaito logs phi-4-mini --tuning --container train --tail 50`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: e.completeWorkspaces,
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.logs(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "stream new lines")
	flags.BoolVarP(&f.previous, "previous", "p", false, "print the logs of the previous run of the container")
	flags.BoolVar(&f.tuning, "tuning", false, "print the logs of the tuning job, even if the Workspace has serving pods")
	flags.StringVarP(&f.container, "container", "c", "", "container to print")
	flags.BoolVar(&f.all, "all-containers", false, "print all containers")
	flags.BoolVar(&f.timestamps, "timestamps", false, "print the time before each line")
	flags.Int64Var(&f.tail, "tail", -1, "number of lines from the end; -1 is all")
	flags.DurationVar(&f.since, "since", 0, "maximum age of lines, for example 10m")
	complete(cmd, "container", serving.ContainerEngine, serving.ContainerGateway, "fetch", "train", "push")
	return cmd
}

// source is one container's log.
type source struct{ pod, container string }

func (e *environment) logs(ctx context.Context, name string, f logFlags) error {
	if f.container != "" && f.all {
		return errors.New("set --container or --all-containers, not both")
	}
	c, err := e.connect()
	if err != nil {
		return err
	}
	w, err := c.workspace(ctx, name)
	if err != nil {
		return err
	}
	s, err := c.look(ctx, w)
	if err != nil {
		return err
	}
	if slices.Contains(s.hidden, "Pods") {
		return fmt.Errorf("you may not list pods in namespace %s: ask for the permission, see %s doctor", w.Namespace, kubectl)
	}
	pods := chosenPods(s, f.tuning)
	if len(pods) == 0 {
		return fmt.Errorf("the Workspace %s/%s has no pods: %s", w.Namespace, w.Name, currentState(w))
	}
	sources, err := sourcesOf(pods, f)
	if err != nil {
		return err
	}
	return e.printLogs(ctx, c, w.Namespace, sources, f)
}

// chosenPods returns the serving pods, or the pods of the tuning job. Of a job with several runs it returns the newest
// pod of each index.
func chosenPods(s *snapshot, tuning bool) []*corev1.Pod {
	var serving, job []*corev1.Pod
	for i := range s.pods {
		if pod := &s.pods[i]; jobPod(pod) {
			job = append(job, pod)
		} else {
			serving = append(serving, pod)
		}
	}
	if len(serving) > 0 && !tuning {
		return serving
	}
	const index = "batch.kubernetes.io/job-completion-index"
	newest := map[string]*corev1.Pod{}
	for _, pod := range job { // oldest first
		newest[pod.Labels[index]] = pod
	}
	return slices.DeleteFunc(job, func(pod *corev1.Pod) bool { return newest[pod.Labels[index]] != pod })
}

func sourcesOf(pods []*corev1.Pod, f logFlags) ([]source, error) {
	var out []source
	for _, pod := range pods {
		names := containerNames(pod)
		switch {
		case f.all:
			for _, name := range names {
				out = append(out, source{pod.Name, name})
			}
		case f.container == "":
			out = append(out, source{pod.Name, defaultContainer(pod)})
		case slices.Contains(names, f.container):
			out = append(out, source{pod.Name, f.container})
		default:
			return nil, fmt.Errorf("--container is %q; pod %s has: %s", f.container, pod.Name, strings.Join(names, ", "))
		}
	}
	return out, nil
}

func containerNames(pod *corev1.Pod) []string {
	var out []string
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		out = append(out, c.Name)
	}
	return out
}

// defaultContainer returns an init container that runs or failed, or the engine, or the first container, in this order.
func defaultContainer(pod *corev1.Pod) string {
	for _, c := range pod.Status.InitContainerStatuses {
		failed := c.State.Terminated != nil && c.State.Terminated.ExitCode != 0 ||
			c.State.Waiting != nil && c.RestartCount > 0
		if c.State.Running != nil && !c.Ready || failed {
			return c.Name
		}
	}
	for _, c := range pod.Spec.Containers {
		if c.Name == serving.ContainerEngine {
			return c.Name
		}
	}
	if len(pod.Spec.Containers) == 0 {
		return ""
	}
	return pod.Spec.Containers[0].Name
}

// printLogs prints the logs one after the other, or all at once if they are streamed.
func (e *environment) printLogs(ctx context.Context, c *cluster, namespace string, sources []source, f logFlags) error {
	out := &lineWriter{out: e.Out}
	options := corev1.PodLogOptions{Follow: f.follow, Previous: f.previous, Timestamps: f.timestamps}
	if f.tail >= 0 {
		options.TailLines = &f.tail
	}
	if f.since > 0 {
		seconds := int64(f.since.Seconds())
		options.SinceSeconds = &seconds
	}
	var group sync.WaitGroup
	failures := make([]error, len(sources))
	for i, s := range sources {
		prefix := ""
		if len(sources) > 1 {
			prefix = "[" + s.pod + "/" + s.container + "] "
		}
		one := options
		one.Container = s.container
		print := func() { failures[i] = c.copyLog(ctx, namespace, s, one, prefix, out) }
		if f.follow {
			group.Go(print)
		} else {
			print()
		}
	}
	group.Wait()
	if ctx.Err() != nil && f.follow {
		return nil // the user stopped the stream
	}
	return errors.Join(failures...)
}

func (c *cluster) copyLog(
	ctx context.Context, namespace string, s source, options corev1.PodLogOptions, prefix string, out *lineWriter,
) error {
	body, err := c.kube.CoreV1().Pods(namespace).GetLogs(s.pod, &options).Stream(ctx)
	if err != nil {
		if apierrors.IsBadRequest(err) {
			return fmt.Errorf("container %s of pod %s has no log: %w", s.container, s.pod, err)
		}
		return fmt.Errorf("reading the log of container %s of pod %s: %w", s.container, s.pod, err)
	}
	defer body.Close()
	in := bufio.NewReader(body)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			if err := out.write(prefix + strings.TrimSuffix(line, "\n") + "\n"); err != nil {
				return fmt.Errorf("writing the log: %w", err)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading the log of container %s of pod %s: %w", s.container, s.pod, err)
		}
	}
}

// lineWriter keeps lines of several logs whole.
type lineWriter struct {
	mutex sync.Mutex
	out   io.Writer
}

func (w *lineWriter) write(line string) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	_, err := io.WriteString(w.out, line)
	return err
}
