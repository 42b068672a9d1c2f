// SPDX-License-Identifier: Apache-2.0

package schema

import (
	"fmt"

	"sigs.k8s.io/yaml"
)

// bases are valid objects of each kind that set most of its fields. TestEveryKindHasABase fails for a kind without one.
var bases = map[string][]string{
	"Workspace": {`
resource: {instanceType: Standard_NC24ads_A100_v4, capacityTypes: [spot, on-demand], count: 1, labelSelector: {matchLabels: {app: a}, matchExpressions: [{key: b, operator: In, values: [c]}]}, preferredNodes: [node-1], partition: {mode: MIG, profile: 1g.10gb, count: 1}}
inference: {preset: {name: phi-4, accessMode: public, presetOptions: {modelAccessSecret: s}}, config: c, adapters: [{source: {name: a, volumeSource: {persistentVolumeClaim: {claimName: v}}}, strength: "1"}]}
`, `
resource: {instanceTypes: [Standard_NC24ads_A100_v4]}
inference: {template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i, resources: {limits: {nvidia.com/gpu: 1, cpu: 500m}}}]}}}
`, `
tuning: {preset: {name: phi-3-mini-128k-instruct}, method: qlora, config: c, input: {volumeSource: {hostPath: {path: /data}}}, output: {volumeSource: {emptyDir: {sizeLimit: 1Gi}}}, serve: Never}
status: {observedGeneration: 1, state: Running, workerNodes: [node-1], targetNodeCount: 1, conditions: [{type: Ready, status: "True", reason: Ready, message: m, lastTransitionTime: "2026-01-01T00:00:00Z"}], milestones: {planned: "2026-01-01T00:00:00Z"}, attempts: [{instanceType: s, capacityType: spot, reason: R, message: m, time: "2026-01-01T00:00:00Z"}]}
`},
	"TuningJob": {`
spec: {model: {preset: phi-4, source: {volumeSource: {persistentVolumeClaim: {claimName: v}}}}, method: lora, config: c, overrides: {LoraConfig: {r: 8}}, input: {volumeSource: {hostPath: {path: /data}}}, output: {volumeSource: {emptyDir: {sizeLimit: 1Gi}}}, checkpoint: {everySteps: 10, keep: 2, volumeSource: {persistentVolumeClaim: {claimName: v}}}, resources: {gpusPerNode: 1, nodes: 1, nodeSelector: {a: b}, tolerations: [{key: a, operator: Exists, effect: NoSchedule, tolerationSeconds: 5}], requests: {cpu: "1", memory: 10Gi}}, backoffLimit: 2, activeDeadlineSeconds: 60, ttlSecondsAfterFinished: 60, suspend: false}
`, `
spec: {model: {id: org/model}, input: {urls: ["https://example.com/a.parquet"]}, output: {image: "r/i:1", imagePushSecret: s}}
status: {observedGeneration: 1, startTime: "2026-01-01T00:00:00Z", completionTime: "2026-01-01T00:00:00Z", conditions: [{type: Ready, status: "True", reason: Ready, message: m, lastTransitionTime: "2026-01-01T00:00:00Z"}], progress: {step: 1, totalSteps: 2, updated: "2026-01-01T00:00:00Z"}, output: {image: i}}
`},
	"Machine": {`
spec: {taints: [{key: sku, value: gpu, effect: NoSchedule}], requirements: [{key: a, operator: In, values: [b]}], resources: {requests: {nvidia.com/gpu: 1, ephemeral-storage: 75Gi}}, kubelet: {maxPods: 10, systemReserved: {cpu: 100m}, kubeReserved: {memory: 1Gi}, evictionSoft: {memory.available: 5%}, evictionSoftGracePeriod: {memory.available: 1m30s}}, machineTemplateRef: {name: default}}
status: {nodeName: node-1, providerID: p, capacity: {cpu: 1}, allocatable: {cpu: 1}, conditions: [{type: Ready, status: "True", lastTransitionTime: "2026-01-01T00:00:00Z", reason: R, message: m}]}
`},
	"GPUBudget": {`
spec: {maxNodes: 10, maxGPUs: 80, maxCostPerHour: "120.50", allowedInstanceTypes: [Standard_NC24ads_A100_v4], allowedCapacityTypes: [spot, on-demand]}
`, `
spec: {maxNodes: 0}
status: {observedGeneration: 1, conditions: [{type: OverBudget, status: "True", reason: OverBudget, message: m, lastTransitionTime: "2026-01-01T00:00:00Z"}]}
`},
	"KaitoNodeClass": {`
spec: {osDiskSizeGiB: 128, zones: ["1"], tags: {a: b}, spotMaxPrice: "-1", maxPods: 30, maxNodesPerPool: 10}
status: {conditions: [{type: Ready, status: "True", reason: Ready, message: m, lastTransitionTime: "2026-01-01T00:00:00Z"}]}
`},
}

// Bases returns copies of the valid objects of a kind.
func (v *Version) Bases() ([]map[string]any, error) {
	var out []map[string]any
	for _, text := range bases[v.Kind] {
		object := map[string]any{}
		if err := yaml.Unmarshal([]byte(text), &object); err != nil {
			return nil, fmt.Errorf("base of %s: %w", v.Kind, err)
		}
		object["apiVersion"], object["kind"] = v.APIVersion, v.Kind
		object["metadata"] = map[string]any{"name": "a", "namespace": "b", "uid": "c"}
		out = append(out, object)
	}
	return out, nil
}
