// SPDX-License-Identifier: Apache-2.0

package serving

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

type row struct {
	reason string
	when   func(trouble) bool
	say    func(trouble) string
	// after is how long it must have lasted.
	after time.Duration
}

// table is ordered from the most specific to the least. Beside it the engine alone knows texts of others.
var table = []row{
	{
		reason: kaitov1alpha1.ReasonModelAccessDenied,
		when: func(t trouble) bool {
			return t.wrote(t.known.AccessDenied...) || t.wrote(`"reason":"SourceDenied"`)
		},
		say: func(t trouble) string {
			return fmt.Sprintf(
				"%s was refused the model (%s): accept the model's licence at its page, and name a Secret with a token of that account in preset.presetOptions.modelAccessSecret (key HF_TOKEN). It wrote: %s",
				t.where(), t.end(), tail(t.text),
			)
		},
	},
	{
		reason: kaitov1alpha1.ReasonDiskFull,
		when: func(t trouble) bool {
			return t.wrote("No space left on device", "no space left on device", `"reason":"VolumeFull"`) ||
				t.container == "" && t.pod.Status.Reason == "Evicted" && strings.Contains(t.text, "ephemeral-storage")
		},
		say: func(t trouble) string {
			return fmt.Sprintf(
				"%s found the node's disk full: take a size with a larger or local disk, or set osDiskSizeGiB in the node class. %s",
				t.where(), tail(t.text),
			)
		},
	},
	{
		reason: kaitov1alpha1.ReasonOutOfMemory,
		when:   func(t trouble) bool { return t.wrote(t.known.OutOfMemory...) },
		say: func(t trouble) string {
			return fmt.Sprintf(
				"%s ran out of GPU memory (%s): lower max-model-len or gpu-memory-utilization in inference.config, or take a size with more GPU memory. It wrote: %s",
				t.where(), t.end(), tail(t.text),
			)
		},
	},
	{
		reason: kaitov1alpha1.ReasonOutOfMemory,
		when:   func(t trouble) bool { return t.ended != nil && t.ended.Reason == "OOMKilled" },
		say: func(t trouble) string {
			return fmt.Sprintf(
				"%s was killed for its memory (%s): the node has too little RAM for loading the model; take a larger size",
				t.where(), t.end(),
			)
		},
	},
	{
		reason: kaitov1alpha1.ReasonSecretNotFound,
		when: func(t trouble) bool {
			return waits(t, "CreateContainerConfigError") && strings.Contains(t.text, "secret")
		},
		say: func(t trouble) string {
			return fmt.Sprintf(
				"%s cannot start: %s. Create the Secret, or the key in it. The container then starts", t.where(),
				tail(t.text),
			)
		},
	},
	{
		reason: kaitov1alpha1.ReasonConfigMapNotFound,
		when:   func(t trouble) bool { return waits(t, "CreateContainerConfigError") },
		say: func(t trouble) string {
			return fmt.Sprintf(
				"%s cannot start: %s. Create what is missing. The container then starts", t.where(), tail(t.text),
			)
		},
	},
	{
		reason: kaitov1alpha1.ReasonImagePullFailed,
		when: func(t trouble) bool {
			return waits(
				t, "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable",
				"ImageInspectError", "SignatureValidationFailed",
			)
		},
		say: func(t trouble) string {
			return fmt.Sprintf(
				"%s cannot get its image: %s. Check the name, that the node reaches the registry, and the pull secret", t.where(),
				tail(t.text),
			)
		},
	},
	{
		reason: kaitov1alpha1.ReasonEngineCrashing,
		when:   func(t trouble) bool { return t.ended != nil || waits(t, "CrashLoopBackOff") },
		say: func(t trouble) string {
			text := fmt.Sprintf("%s exits repeatedly (%s)", t.where(), t.end())
			if wrote := tail(t.text); wrote != "" {
				text += ". It wrote: " + wrote
			}
			return text + fmt.Sprintf(". See kubectl logs -n %s %s -c %s --previous", t.pod.Namespace, t.pod.Name, t.container)
		},
	},
	{
		reason: kaitov1alpha1.ReasonEngineCrashing,
		when:   func(t trouble) bool { return waits(t, "CreateContainerError", "RunContainerError", "StartError") },
		say: func(t trouble) string {
			return fmt.Sprintf("%s cannot be started by its node: %s", t.where(), tail(t.text))
		},
	},
	{
		reason: kaitov1alpha1.ReasonUnschedulable,
		after:  unschedulableGrace,
		when:   func(t trouble) bool { return t.container == "" && unschedulable(t.pod) != nil },
		say: func(t trouble) string {
			return fmt.Sprintf(
				"pod %s fits no node: %s. See what else runs on the Workspace's nodes, and their taints and labels", t.pod.Name,
				tail(unschedulable(t.pod).Message),
			)
		},
	},
	{
		reason: kaitov1alpha1.ReasonEngineCrashing,
		when:   func(t trouble) bool { return t.container == "" && t.pod.Status.Phase == corev1.PodFailed },
		say: func(t trouble) string {
			return fmt.Sprintf(
				"pod %s has failed: %s %s. Kubernetes replaces it", t.pod.Name, t.pod.Status.Reason, tail(t.text),
			)
		},
	},
}

// wrote says whether the container wrote one of the texts before it ended.
func (t trouble) wrote(texts ...string) bool {
	return t.ended != nil && slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(t.text, text) })
}

func waits(t trouble, reasons ...string) bool {
	return t.waiting != nil && slices.Contains(reasons, t.waiting.Reason)
}

func unschedulable(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return c
		}
	}
	return nil
}

// NeedsPerson says whether a failure stays until a person acts. A pod that fits no node, or is refused by a policy that
// may change, is tried again by Kubernetes itself.
func NeedsPerson(reason string) bool {
	switch reason {
	case kaitov1alpha1.ReasonModelAccessDenied, kaitov1alpha1.ReasonOutOfMemory, kaitov1alpha1.ReasonDiskFull,
		kaitov1alpha1.ReasonSecretNotFound, kaitov1alpha1.ReasonConfigMapNotFound, kaitov1alpha1.ReasonQuotaDenied,
		kaitov1alpha1.ReasonImagePullFailed, kaitov1alpha1.ReasonEngineCrashing:
		return true
	}
	return false
}
