// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
	"kaito.sh/shared/catalog"
	"kaito.sh/workspace-operator/internal/engine"
)

// question is a request whose names have been looked up.
type question struct {
	request  Request
	catalog  *catalog.Catalog
	software engine.Engine
	model    catalog.Model
	// config is what the newest release reads that accepts the user's configuration. configs has, by the version,
	// what each reads, or why it refuses the configuration.
	config   engine.Config
	configs  map[string]configuration
	training training
}

func ask(r Request, c *catalog.Catalog, e engine.Engine) (*question, error) {
	q := &question{request: r, catalog: c, software: e}
	if len(r.CapacityTypes) == 0 {
		q.request.CapacityTypes = []string{catalog.CapacityOnDemand}
	}
	if r.Count != nil && *r.Count < 1 {
		return nil, &Refusal{
			Reason:  kaitov1alpha1.ReasonInvalidSpec,
			Message: fmt.Sprintf("resource.count is %d: nothing is planned for it; allowed: at least 1", *r.Count),
		}
	}
	if r.Mode == ModeTemplate {
		return q, nil
	}
	var err error
	if r.Model != nil {
		q.model = *r.Model
	} else if q.model, err = c.Model(r.Preset); err != nil {
		return nil, &Refusal{
			Reason: kaitov1alpha1.ReasonUnknownPreset,
			Message: fmt.Sprintf(
				"preset.name is %q: %s. Name a model of the catalogue, or serve it by inference.template", r.Preset, err,
			),
		}
	}
	if err := q.readConfig(); err != nil {
		return nil, err
	}
	if err := q.agree(); err != nil {
		return nil, err
	}
	if r.Mode != ModeTuning {
		return q, nil
	}
	switch q.request.Method = strings.ToLower(r.Method); q.request.Method {
	case "":
		q.request.Method = methodLoRA
	case methodLoRA, methodQLoRA:
	default:
		return nil, &Refusal{
			Reason:  kaitov1alpha1.ReasonInvalidSpec,
			Message: fmt.Sprintf("tuning.method is %q; allowed: lora, qlora", r.Method),
		}
	}
	if q.model.Tuning == nil || q.model.Quant.Bits != 16 {
		return nil, infeasible(
			fmt.Sprintf(
				"tuning.preset.name is %q: the catalogue has no figures for tuning it (it is quantized, or its shape is not known); choose a 16-bit model",
				r.Preset,
			),
		)
	}
	if q.training, err = parseTraining(r.TrainingConfig); err != nil {
		return nil, invalidConfig(err)
	}
	return q, nil
}

// configuration is what one release of the engine reads.
type configuration struct {
	engine.Config
	err error
}

// readConfig reads the user's configuration for each release. One that the newest release refuses is accepted only for
// sizes that the user names: a mistyped key must not lead to an older GPU.
func (q *question) readConfig() error {
	q.configs = map[string]configuration{}
	var first error
	found := false
	for _, release := range q.catalog.Engines() {
		if _, read := q.configs[release.Version]; read {
			continue
		}
		c, err := q.software.ReadConfig(q.request.InferenceConfig, release)
		q.configs[release.Version] = configuration{c, err}
		switch {
		case err != nil && first == nil:
			first = err
		case err == nil && !found:
			q.config, found = c, true
		}
	}
	chosen := len(q.request.InstanceTypes) > 0 || len(q.request.Sizes) > 0
	if first != nil && (!found || !chosen && q.configs[q.catalog.Engines()[0].Version].err != nil) {
		return invalidConfig(first)
	}
	return nil
}

// agree refuses what no size could make possible.
func (q *question) agree() error {
	if n := q.config.MaxModelLen; n > q.model.Context {
		return q.disagrees(
			"max-model-len", "is %d, and %s has a context of %d; allowed: at most that", n, q.model.ID,
			q.model.Context,
		)
	}
	wanted, stored := q.config.Quantization, q.model.Quant.Method
	if wanted == "" || wanted == stored {
		return nil
	}
	if stored != "" {
		return q.disagrees(
			"quantization", "is %q, and the weights of %s are stored by %s; remove the key", wanted, q.model.ID,
			stored,
		)
	}
	if quantization, known := q.catalog.Quantization(wanted); !known || !quantization.InFlight {
		return q.disagrees(
			"quantization", "is %q; allowed for 16-bit weights: %s", wanted,
			strings.Join(q.catalog.InFlightQuantizations(), ", "),
		)
	}
	return nil
}

func (q *question) disagrees(key, format string, args ...any) *Refusal {
	return invalidConfig(q.config.Wrong(key, format, args...))
}

func invalidConfig(err error) *Refusal {
	return &Refusal{Reason: kaitov1alpha1.ReasonInvalidConfig, Message: err.Error()}
}
