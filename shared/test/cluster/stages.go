// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	_ "embed"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The life cycle of a simulated pod as stages of KWOK. A stage waits for a predicate on the pod (jq), then for a
// duration, and then patches the status. At most one predicate is true at a time, because KWOK would choose randomly.
// Only the pod's OutcomeAnnotation decides what happens:
//
//	            ┌─► wait ─┐ (a container may not start)
//	Pending ────┤         ├─► init-run ⇄ init-end ─► ready ─► Running ─► complete (Job) ─► Succeeded | Failed
//	            └─────────┘                                      └─► crash ⇄ recover (other pods)
//	deleted: terminate ─► delete
//
// All stages share a status template (status.tmpl), which has a $mode for each.

//go:embed status.tmpl
var statusTemplate string

//go:embed node.tmpl
var nodeTemplate string

// podFunctions are jq functions of a pod:
//
//   - outcome: the parsed annotation. Without one, JOBS for the pod of a Job, and an empty object for other pods.
//   - step: the name of the first init container that has not succeeded, or null.
//   - state(name): the current state of a container.
//   - held: the reason why the next container may not start, or null.
//   - due: the next init container if it may start, or null.
//   - crashing: the main containers that must crash-loop.
const podFunctions = `
def is_job: .metadata.labels["batch.kubernetes.io/job-name"] != null;
def outcome: .metadata.annotations["sim.kaito.sh/outcome"] // (if is_job then JOBS else "{}" end) | fromjson;
def statuses: (.status.initContainerStatuses[]?, .status.containerStatuses[]?);
def state($name): first(statuses | select(.name == $name) | .state) // {};
def step: . as $pod
  | first(.spec.initContainers[]? | select(.restartPolicy != "Always") | .name
      | select(. as $name | $pod | state($name) | .terminated.exitCode != 0)) // null;
def held: outcome as $outcome | step as $step
  | if $step then $outcome[$step].waiting
    else first(.spec.containers[].name as $name | $outcome[$name].waiting | select(.)) // null end;
def due: if held then null else step end;
def crashing: outcome as $outcome | [.spec.containers[].name | select(($outcome[.].exitCode // 0) != 0)];
def alive($phase): .metadata.deletionTimestamp == null and (.status.phase // "Pending") == $phase;
`

// stage is a Stage of KWOK. when and after are jq expressions; after returns a duration.
type stage struct {
	name, kind  string
	when, after string
	steps       []object
}

// stages returns the stages of the kubelet of the config. kubelet is its address, of the type that the API server
// prefers.
func (k KWOKConfig) stages(kubelet corev1.NodeAddress) []object {
	jobs := strconv.Quote("{}")
	if k.Jobs != nil {
		jobs = strconv.Quote(k.Jobs.Annotation())
	}
	functions := strings.ReplaceAll(podFunctions, "JOBS", jobs)
	var documents []object
	for _, s := range podStages(strings.ReplaceAll(statusTemplate, "JOBS", jobs)) {
		documents = append(documents, s.document(functions))
	}
	for _, s := range nodeStages(kubelet) {
		documents = append(documents, s.document(""))
	}
	return documents
}

func podStages(template string) []stage {
	pod := func(mode, when, after string) stage {
		return stage{name: "pod-" + mode, kind: "Pod", when: when, after: after, steps: []object{status(mode, template)}}
	}
	malformed := stage{
		name: "pod-malformed", kind: "Pod",
		when: `.metadata.deletionTimestamp == null
			and (.metadata.annotations["sim.kaito.sh/outcome"] // "{}" | try (fromjson | type) catch "none") != "object"`,
		steps: []object{{"event": object{
			"type": "Warning", "reason": "MalformedOutcome",
			"message": `the annotation sim.kaito.sh/outcome must be a JSON object of container names`,
		}}},
	}
	remove := stage{
		name: "pod-delete", kind: "Pod",
		when:  `.metadata.deletionTimestamp != null and (.status.phase == "Succeeded" or .status.phase == "Failed")`,
		steps: []object{{"delete": true}},
	}
	return []stage{
		malformed,
		pod(
			"wait",
			`alive("Pending") and held and (held as $reason | any(statuses; .state.waiting.reason == $reason) | not)`,
			"",
		),
		pod("init-run", `alive("Pending") and due and (due as $name | state($name)
			| (.running or .terminated or .waiting.reason == "CrashLoopBackOff") | not)`, ""),
		pod("init-end", `alive("Pending") and due and (due as $name | state($name).running)`,
			`outcome[due].after // "100ms"`),
		pod("init-recover", `alive("Pending") and due and (due as $name
			| state($name).waiting.reason == "CrashLoopBackOff" and (outcome[$name].exitCode // 0) == 0)`, ""),
		pod("ready", `alive("Pending") and (held | not) and (step | not)`, ""),
		pod("complete", `alive("Running") and is_job`,
			`outcome as $outcome | first(.spec.containers[].name | $outcome[.].after | select(.)) // "500ms"`),
		pod("crash", `alive("Running") and (is_job | not) and any(crashing[] as $name | state($name); .running)`,
			`outcome as $outcome | first(crashing[] | $outcome[.].after | select(.)) // "0s"`),
		pod("recover", `alive("Running") and (is_job | not)
			and (any(crashing[] as $name | state($name); .running) | not)
			and (crashing as $crashing | any(.status.containerStatuses[]?; .state.waiting and (.name as $name | $crashing | index($name) | not)))`, ""),
		pod(
			"terminate",
			`.metadata.deletionTimestamp != null and ((.status.phase // "Pending") | . == "Pending" or . == "Running")`,
			"",
		),
		remove,
	}
}

// status returns the patch of a pod's status for a mode.
func status(mode, template string) object {
	return object{"patch": object{
		"subresource": "status", "root": "status", "type": "strategic",
		"template": `{{- $mode := "` + mode + `" -}}` + "\n" + template,
	}}
}

func nodeStages(kubelet corev1.NodeAddress) []stage {
	template := strings.NewReplacer("ADDRESS_TYPE", string(kubelet.Type), "ADDRESS", kubelet.Address).Replace(nodeTemplate)
	const ready = `any(.status.conditions[]?; .type == "Ready" and .status == "True")`
	node := func(name, when string) stage {
		return stage{name: name, kind: "Node", when: when, steps: []object{
			{"patch": object{"subresource": "status", "root": "status", "type": "strategic", "template": template}},
		}}
	}
	const notReady = `.metadata.annotations["` + NotReadyAnnotation + `"]`
	return []stage{
		// The address of the kubelet is set too, because other writers of the node's status do not know it.
		node("node-initialize", `.metadata.deletionTimestamp == null and `+notReady+` == null and ((`+ready+` and .status.daemonEndpoints.kubeletEndpoint.Port
			and any(.status.addresses[]?; .address == "`+kubelet.Address+`")) | not)`),
		// Also while it is being deleted: a finalizer keeps the Node of a machine that is gone.
		node("node-not-ready", notReady+` != null and `+ready),
	}
}

func (s stage) document(functions string) object {
	// The result of the predicate is a text, the only type that KWOK compares reliably.
	key := functions + `if (` + s.when + `) then "true" else "false" end`
	spec := object{
		"resourceRef": object{"apiGroup": "v1", "kind": s.kind},
		"selector": object{"matchExpressions": []object{
			{"jq": object{"key": strings.TrimSpace(key), "operator": "In", "values": []string{"true"}}},
		}},
		"steps": s.steps,
	}
	if s.after != "" {
		spec["delay"] = object{"durationFrom": object{"jq": object{"expression": strings.TrimSpace(functions + s.after)}}}
	}
	return kwokObject("Stage", s.name, spec)
}
