// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/workspace-operator/internal/placement"
)

// level is the state of an object.
type level int

const (
	levelWaiting level = iota
	levelGood
	levelBad
)

// branch is one object of the tree.
type branch struct {
	// name is "Kind name", text its state.
	name, text string
	level      level
	// created is the creation time; zero if it is not shown.
	created time.Time
	// details are lines below the object.
	details  []string
	children []*branch
}

func (b *branch) add(children ...*branch) { b.children = append(b.children, children...) }

// newTree returns the tree of a snapshot: the Workspace, its claims with their nodes and pods, the TuningJob, the
// servers and the Service.
func newTree(s *snapshot) *branch {
	w := s.workspace
	root := &branch{name: "Workspace " + w.Namespace + "/" + w.Name, created: w.CreationTimestamp.Time}
	root.level, root.text = verdict(w.Status.Conditions, w.DeletionTimestamp)
	if w.Status.State != "" && string(w.Status.State) != root.text {
		root.text = string(w.Status.State) + ": " + root.text
	}
	root.details = append(root.details, planLine(w)...)
	root.details = append(root.details, attemptLines(w)...)
	placed := map[string]bool{}
	named := map[string]bool{}
	for _, claim := range s.claims {
		named[claim.NodeName] = true
		if !s.hasOwner(claim) {
			root.add(claimBranch(claim, s, placed))
		}
	}
	for _, name := range w.Status.WorkerNodes {
		if !named[name] {
			root.add(nodeBranch(name, s, 0, placed))
		}
	}
	if s.tuning != nil {
		root.add(tuningBranch(s, placed))
	}
	for _, server := range s.servers {
		b := &branch{name: server.kind + " " + server.name, text: fmt.Sprintf("%d of %d ready", server.ready, server.desired)}
		if server.desired > 0 && server.ready >= server.desired {
			b.level = levelGood
		}
		for i := range s.pods {
			if pod := &s.pods[i]; !placed[pod.Name] && !jobPod(pod) {
				placed[pod.Name] = true
				b.add(podBranch(pod))
			}
		}
		root.add(b)
	}
	if s.service != nil {
		root.add(serviceBranch(s))
	}
	return root
}

// verdict returns the Ready condition in one line. Stalled has priority, because it needs a change by a user.
func verdict(conditions []metav1.Condition, deleted *metav1.Time) (level, string) {
	if deleted != nil {
		return levelWaiting, "being deleted"
	}
	if c := meta.FindStatusCondition(conditions, kaitov1alpha1.ConditionStalled); c != nil &&
		c.Status == metav1.ConditionTrue {
		return levelBad, "stalled: " + c.Reason
	}
	c := meta.FindStatusCondition(conditions, kaitov1alpha1.ConditionReady)
	switch {
	case c == nil:
		return levelWaiting, "not reconciled by an operator yet"
	case c.Status == metav1.ConditionTrue:
		return levelGood, "Ready"
	}
	return levelWaiting, strings.TrimSuffix(c.Reason+": "+c.Message, ": ")
}

func planLine(w *kaitov1alpha1.Workspace) []string {
	p := w.Status.Plan
	if p == nil || p.Nodes == 0 {
		return nil
	}
	text := fmt.Sprintf("plan: %d × %s", p.Nodes, p.InstanceType)
	if p.CapacityType != "" {
		text += " " + string(p.CapacityType)
	}
	if p.TensorParallel > 0 {
		text += fmt.Sprintf(", tensor %d × pipeline %d × data %d", p.TensorParallel, p.PipelineParallel, p.DataParallel)
	}
	if p.MaxModelLen > 0 {
		text += fmt.Sprintf(", %d tokens", p.MaxModelLen)
	}
	if p.CostPerHour != "" {
		text += fmt.Sprintf(", $%s per hour (list price of %s)", p.CostPerHour, p.PriceDate)
	}
	return []string{text}
}

func attemptLines(w *kaitov1alpha1.Workspace) []string {
	var out []string
	for _, a := range w.Status.Attempts {
		text := fmt.Sprintf(
			"attempt %s: %s %s: %s: %s", clockTime(a.Time.Time), a.InstanceType, a.CapacityType, a.Reason, a.Message,
		)
		out = append(out, text)
	}
	return out
}

// clockTime formats the time of day in the local time zone.
func clockTime(t time.Time) string { return t.Local().Format(time.TimeOnly) }

func claimBranch(claim placement.Claim, s *snapshot, placed map[string]bool) *branch {
	b := &branch{name: claim.Kind + " " + claim.Name, created: claim.Created}
	size := strings.TrimSpace(claim.InstanceType + " " + string(claim.CapacityType))
	reason, message, failed := claim.Failure()
	switch {
	case claim.Deleting:
		b.text = "being deleted"
	case failed:
		b.level, b.text = levelBad, reason+": "+message
	case !claim.Acknowledged:
		b.text = "not acknowledged by a provisioner yet"
	case claim.Ready.True():
		b.level, b.text = levelGood, "Ready"
	default:
		b.text = claimProgress(claim)
	}
	b.text = strings.TrimSuffix(b.text+"; "+size, "; ")
	// The gpu-provisioner creates a NodeClaim for each Machine. The node is shown below the NodeClaim.
	behind := false
	for _, other := range s.claims {
		if metav1.IsControlledBy(other.Object, claim.Object) {
			behind = true
			b.add(claimBranch(other, s, placed))
		}
	}
	if claim.NodeName != "" && !behind {
		b.add(nodeBranch(claim.NodeName, s, claim.GPUs, placed))
	}
	return b
}

// hasOwner reports whether another claim controls the claim.
func (s *snapshot) hasOwner(claim placement.Claim) bool {
	return slices.ContainsFunc(
		s.claims, func(other placement.Claim) bool { return metav1.IsControlledBy(claim.Object, other.Object) },
	)
}

// claimProgress returns the first condition that is not true, with its reason and message.
func claimProgress(claim placement.Claim) string {
	for _, c := range []struct {
		what      string
		condition placement.Condition
	}{
		{"the machine to launch", claim.Launched}, {"the node to join", claim.Registered},
		{"the node to be initialized", claim.Initialized}, {"Ready", claim.Ready},
	} {
		if !c.condition.True() {
			text := "waits for " + c.what
			if c.condition.Reason != "" {
				text += " (" + strings.TrimSuffix(c.condition.Reason+": "+c.condition.Message, ": ") + ")"
			}
			return text
		}
	}
	return "Ready"
}

// nodeBranch shows a node and the Workspace's pods on it. gpus is the required number of allocatable GPUs; 0 accepts
// any number.
func nodeBranch(name string, s *snapshot, gpus int64, placed map[string]bool) *branch {
	b := &branch{name: "Node " + name}
	n := s.nodes[name]
	if n == nil {
		b.level, b.text = levelBad, "does not exist"
		if slices.Contains(s.hidden, "Nodes") {
			b.level, b.text = levelWaiting, "may not be read"
		}
	} else {
		b.created = n.CreationTimestamp.Time
		allocatable := n.Status.Allocatable[kaitov1alpha1.ResourceNvidiaGPU]
		capacity := n.Status.Capacity[kaitov1alpha1.ResourceNvidiaGPU]
		b.level, b.text = levelGood, fmt.Sprintf(
			"Ready, %d of %d GPUs allocatable", allocatable.Value(), max(capacity.Value(), gpus),
		)
		if why := placement.Unusable(n, max(gpus, 1)); why != "" {
			b.level, b.text = levelBad, strings.TrimPrefix(why, "node "+name+" ")
		}
	}
	for i := range s.pods {
		if pod := &s.pods[i]; pod.Spec.NodeName == name && !jobPod(pod) {
			placed[pod.Name] = true
			b.add(podBranch(pod))
		}
	}
	return b
}

func jobPod(pod *corev1.Pod) bool { return pod.Labels[batchv1.JobNameLabel] != "" }

func tuningBranch(s *snapshot, placed map[string]bool) *branch {
	job := s.tuning
	b := &branch{name: "TuningJob " + job.Name, created: job.CreationTimestamp.Time}
	b.level, b.text = tuningVerdict(job)
	if p := job.Status.Progress; p != nil &&
		!meta.IsStatusConditionTrue(job.Status.Conditions, tuningv1alpha1.ConditionSucceeded) {
		b.details = append(b.details, progressLine(p))
	}
	for _, a := range job.Status.Attempts {
		b.details = append(
			b.details,
			fmt.Sprintf("attempt: %s: %s (steps %d to %d, %d lost)", a.Reason, a.Message, a.FromStep, a.ToStep, a.LostSteps),
		)
	}
	if o := job.Status.Output; o != nil && o.Image != "" {
		b.details = append(b.details, "output: "+o.Image)
	}
	for i := range s.jobs {
		j := &s.jobs[i]
		child := &branch{name: "Job " + j.Name, created: j.CreationTimestamp.Time, text: jobText(j)}
		switch {
		case jobIs(j, batchv1.JobComplete):
			child.level = levelGood
		case jobIs(j, batchv1.JobFailed):
			child.level = levelBad
		}
		for k := range s.pods {
			if pod := &s.pods[k]; pod.Labels[batchv1.JobNameLabel] == j.Name {
				placed[pod.Name] = true
				child.add(podBranch(pod))
			}
		}
		b.add(child)
	}
	return b
}

func tuningVerdict(job *tuningv1alpha1.TuningJob) (level, string) {
	if c := meta.FindStatusCondition(job.Status.Conditions, tuningv1alpha1.ConditionFailed); c != nil &&
		c.Status == metav1.ConditionTrue {
		return levelBad, strings.TrimSuffix(c.Reason+": "+c.Message, ": ")
	}
	if meta.IsStatusConditionTrue(job.Status.Conditions, tuningv1alpha1.ConditionSucceeded) {
		return levelGood, "Succeeded"
	}
	return verdict(job.Status.Conditions, job.DeletionTimestamp)
}

// barWidth is the number of characters of a progress bar.
const barWidth = 24

func progressLine(p *tuningv1alpha1.Progress) string {
	text := fmt.Sprintf("step %d", p.Step)
	if p.TotalSteps > 0 {
		filled := int(min(max(p.Step, 0), p.TotalSteps) * barWidth / p.TotalSteps)
		text = fmt.Sprintf(
			"[%s%s] %d%% (%d of %d steps)", strings.Repeat("█", filled), strings.Repeat("░", barWidth-filled),
			min(max(p.Step, 0), p.TotalSteps)*100/p.TotalSteps, p.Step, p.TotalSteps,
		)
	}
	for _, f := range []struct{ name, value string }{{"loss", p.Loss}, {"tokens/s", p.TokensPerSecond}, {"left", p.ETA}} {
		if f.value != "" {
			text += ", " + f.name + " " + f.value
		}
	}
	return text
}

func jobIs(j *batchv1.Job, kind batchv1.JobConditionType) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == kind && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

func jobText(j *batchv1.Job) string {
	switch {
	case jobIs(j, batchv1.JobComplete):
		return "complete"
	case jobIs(j, batchv1.JobFailed):
		return "failed"
	case jobIs(j, batchv1.JobSuspended):
		return "suspended"
	}
	return fmt.Sprintf("%d active, %d failed", j.Status.Active, j.Status.Failed)
}

func serviceBranch(s *snapshot) *branch {
	b := &branch{name: "Service " + s.service.Name, level: levelWaiting, text: s.service.Spec.ClusterIP}
	if endpoint := s.workspace.Status.Endpoint; endpoint != "" {
		b.level, b.text = levelGood, endpoint
	}
	for _, ingress := range s.service.Status.LoadBalancer.Ingress {
		b.text += ", external address " + ingress.IP + ingress.Hostname
	}
	return b
}

// age formats a duration as kubectl does.
func age(since, now time.Time) string {
	if since.IsZero() {
		return ""
	}
	return duration.HumanDuration(now.Sub(since))
}
