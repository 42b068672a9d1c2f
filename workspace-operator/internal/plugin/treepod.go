// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// podBranch shows a pod with the container that is not ready.
func podBranch(pod *corev1.Pod) *branch {
	b := &branch{name: "Pod " + pod.Name, created: pod.CreationTimestamp.Time}
	ready, all := 0, len(pod.Spec.Containers)
	for _, c := range pod.Status.ContainerStatuses {
		if c.Ready {
			ready++
		}
	}
	b.text = fmt.Sprintf("%s, %d of %d containers ready", pod.Status.Phase, ready, all)
	switch {
	case pod.DeletionTimestamp != nil:
		b.text = "being deleted"
		return b
	case pod.Status.Phase == corev1.PodSucceeded:
		b.level, b.text = levelGood, "Succeeded"
		return b
	case pod.Status.Phase == corev1.PodFailed:
		b.level = levelBad
	case ready == all:
		b.level = levelGood
		return b
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			b.level, b.text = levelBad, c.Reason+": "+c.Message
		}
	}
	if text, bad := blockingContainer(pod); text != "" {
		b.text += "; " + text
		if bad {
			b.level = levelBad
		}
	}
	return b
}

// blockingContainer describes the first container, in starting order, that waits, failed, or still runs as an init
// container.
func blockingContainer(pod *corev1.Pod) (text string, bad bool) {
	for i, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		step := i < len(pod.Status.InitContainerStatuses)
		switch {
		case c.State.Terminated != nil && c.State.Terminated.ExitCode != 0:
			return fmt.Sprintf("%s exited with %d (%s)", c.Name, c.State.Terminated.ExitCode, c.State.Terminated.Reason), true
		case c.State.Waiting != nil && !quiet(c.State.Waiting.Reason):
			text := c.Name + ": " + strings.TrimSuffix(c.State.Waiting.Reason+": "+c.State.Waiting.Message, ": ")
			if c.RestartCount > 0 {
				text += fmt.Sprintf(" (%d restarts)", c.RestartCount)
			}
			return text, true
		case step && c.State.Running != nil && !c.Ready:
			return c.Name + " runs", false
		case !step && !c.Ready && c.State.Running != nil:
			return c.Name + " is not ready", false
		case !step && c.State.Waiting != nil && c.State.Waiting.Reason == reasonCreating:
			return c.Name + " is being created", false
		}
	}
	return "", false
}

// Reasons of a container that has not started yet.
const (
	reasonCreating     = "ContainerCreating"
	reasonInitializing = "PodInitializing"
)

func quiet(reason string) bool { return reason == reasonCreating || reason == reasonInitializing }
