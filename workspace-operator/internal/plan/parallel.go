// SPDX-License-Identifier: Apache-2.0

package plan

import "kaito.sh/shared/catalog"

// tensorParallels are the ways to cut the model that a node has GPUs for, ascending. Where the rest of the GPUs cannot
// work as copies of the model, in a pipeline across nodes or because the engine has no copies, only the largest is
// taken.
func (q *question) tensorParallels(p *Plan, nodes int) []int {
	var out []int
	multiple := q.software.Figures().VocabularyMultiple
	shape := q.software.Shape(q.model, p.Engine, p.Size.Capability)
	for tp := 1; tp <= min(p.GPUsPerNode, multiple); tp++ {
		divided := divides(q.model, tp, multiple)
		if shape != nil && nodes <= MaxNodes {
			divided = len(shape.GPUs[tp].Pipelines[nodes]) > 0
		}
		if divided {
			out = append(out, tp)
		}
	}
	if len(out) > 1 && (nodes > 1 || !p.Engine.DataParallel) {
		return out[len(out)-1:]
	}
	return out
}

// divides says whether the engine can cut the model into tp: attention heads, padded vocabulary and, where it is known,
// the feed-forward width. Fewer KV heads than tp are repeated, so one must divide the other.
func divides(m catalog.Model, tp, vocabularyMultiple int) bool {
	if tp == 1 {
		return true
	}
	if m.Heads%tp != 0 || vocabularyMultiple%tp != 0 || m.Tuning != nil && m.Tuning.Intermediate%tp != 0 {
		return false
	}
	if m.Attention.Kind == catalog.AttentionMLA || m.KVHeads == 0 {
		return true
	}
	return m.KVHeads%tp == 0 || tp%m.KVHeads == 0
}
