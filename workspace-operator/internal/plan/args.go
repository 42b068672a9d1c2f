// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"math"

	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine"
)

// imageGiB is what the engine's image and the system's own need of the node's disk, unpacked.
const imageGiB = 60

// disk is what image and weights need, the weights twice while an image of them is unpacked.
func (q *question) disk() int {
	weights := float64(q.model.WeightsBytes) / GiB
	return imageGiB + int(math.Ceil(weights*2))
}

// args are the engine's flags; nil where no model is served. ownTemplate: the user names a chat template.
func (q *question) args(p *Plan) (flags engine.Flags, ownTemplate bool) {
	if q.request.Mode != ModeInference {
		return nil, false
	}
	config := q.configs[p.Engine.Version].Config
	_, ownTemplate = config.Passed["chat-template"]
	return q.software.Flags(engine.Settings{
		Config: config, Model: q.model, Release: p.Engine, MaxModelLen: p.MaxModelLen,
		Utilization: q.utilization(p.Size), Dtype: p.Dtype, KVDtype: q.kvDtype(), Quantization: p.Quantization,
		TensorParallel: p.TensorParallel, PipelineParallel: p.PipelineParallel, DataParallel: p.DataParallel,
	}), ownTemplate
}

// kvDtype is the type of the KV cache's elements.
func (q *question) kvDtype() string {
	if q.config.KVDtype != "" {
		return q.config.KVDtype
	}
	return q.model.Attention.KVDtype
}

func (q *question) utilization(s catalog.Size) float64 {
	if q.config.Utilization > 0 {
		return q.config.Utilization
	}
	return s.Utilization
}

// String is the terms as JSON in GiB, for logs and goldens.
func (t Terms) String() string {
	round := func(bytes float64) float64 { return math.Round(bytes/GiB*100) / 100 }
	text, err := json.Marshal(map[string]float64{
		"weights": round(t.Weights), "kvCache": round(t.KVCache), "activations": round(t.Activations),
		"overhead": round(t.Overhead), "free": round(t.Free), "usable": round(t.Usable),
	})
	if err != nil {
		return err.Error() // finite numbers always marshal
	}
	return string(text)
}
