// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"kaito.sh/shared/excerpt"
)

// engineParams are the sampling parameters of an engine call, by vLLM's names.
type engineParams map[string]any

// kwarg is a key of generate_kwargs: a generation argument of Hugging Face, or a parameter that only OpenAI's API has.
type kwarg struct {
	// param is the engine's name; empty if the engine has none and only certain values are valid.
	param string
	// allowed describes the allowed values.
	allowed string
	// parse returns the engine's value; ok is false if the value is not allowed.
	parse func(json.RawMessage) (value any, ok bool)
}

// kwargs maps generate_kwargs to vLLM's sampling parameters. It is read only.
//
// max_length and min_length differ from Hugging Face: they limit the answer, not the prompt and the answer together,
// because the gateway does not know the number of the prompt's tokens.
var kwargs = map[string]kwarg{
	"max_length":              integer("max_tokens", 1, math.MaxInt32),
	"max_new_tokens":          integer("max_tokens", 1, math.MaxInt32),
	"max_tokens":              integer("max_tokens", 1, math.MaxInt32),
	"min_length":              integer("min_tokens", 0, math.MaxInt32),
	"min_new_tokens":          integer("min_tokens", 0, math.MaxInt32),
	"do_sample":               boolean("do_sample"),
	"temperature":             number("temperature", 0, 100),
	"top_k":                   integer("top_k", 0, math.MaxInt32),
	"top_p":                   number("top_p", math.SmallestNonzeroFloat64, 1),
	"min_p":                   number("min_p", 0, 1),
	"repetition_penalty":      number("repetition_penalty", math.SmallestNonzeroFloat64, 100),
	"presence_penalty":        number("presence_penalty", -2, 2),
	"frequency_penalty":       number("frequency_penalty", -2, 2),
	"seed":                    integer("seed", math.MinInt64, math.MaxInt64),
	"stop":                    texts("stop"),
	"stop_strings":            texts("stop"),
	"eos_token_id":            tokens("stop_token_ids"),
	"skip_special_tokens":     boolean("skip_special_tokens"),
	"pad_token_id":            {allowed: "a token's number, which has no effect here", parse: tokens("").parse},
	"num_return_sequences":    only("1, because /chat returns one answer", 1),
	"num_beams":               only("1, because the engine has no beam search", 1),
	"early_stopping":          onlyFalse("false, because the engine has no beam search"),
	"length_penalty":          only("1, because the engine has no beam search", 1),
	"typical_p":               only("1, because the engine has no typical sampling", 1),
	"no_repeat_ngram_size":    only("0, because the engine does not support it; repetition_penalty is similar", 0),
	"renormalize_logits":      onlyFalse("false"),
	"output_scores":           onlyFalse("false, because /chat returns only text"),
	"return_dict_in_generate": onlyFalse("false, because /chat returns only text"),
	"output_attentions":       onlyFalse("false, because /chat returns only text"),
	"output_hidden_states":    onlyFalse("false, because /chat returns only text"),
	"num_beam_groups":         only("1, because the engine has no beam search", 1),
	"diversity_penalty":       only("0, because the engine has no beam search", 0),
	"guidance_scale":          only("1, because the engine does not support it", 1),
	"remove_invalid_values":   onlyFalse("false"),
	// The engine decides these itself, and its answer is the same.
	"clean_up_tokenization_spaces": {allowed: "true or false, which has no effect here", parse: boolean("").parse},
	"use_cache":                    {allowed: "true or false, which has no effect here", parse: boolean("").parse},
}

// neutralKeys are keys of KAITO's earlier /chat, with the only values that change nothing. The map is read only.
var neutralKeys = map[string]kwarg{
	"clean_up_tokenization_spaces": {allowed: "true or false, which has no effect here", parse: boolean("").parse},
	"prefix": {allowed: "empty: put the text before the prompt", parse: func(raw json.RawMessage) (any, bool) {
		return nil, string(raw) == `""`
	}},
	"handle_long_generation": {allowed: "null", parse: func(json.RawMessage) (any, bool) { return nil, false }},
}

// engineParamsOf translates generate_kwargs. The error is an *apiError that names the key.
func engineParamsOf(given map[string]json.RawMessage) (engineParams, error) {
	params, from := engineParams{}, map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		raw, param := given[key], "generate_kwargs."+key
		known, ok := kwargs[key]
		if !ok {
			return nil, invalidRequest(
				"unknown_parameter", "generate_kwargs."+cut(key), "%s is not a key of generate_kwargs. Allowed are %s.", quote(key),
				strings.Join(slices.Sorted(maps.Keys(kwargs)), ", "),
			)
		}
		if isNull(raw) { // Hugging Face's None: the same as an unset key
			continue
		}
		value, ok := known.parse(raw)
		if !ok {
			return nil, invalidRequest(
				"invalid_value", param, "%s is %s: it must be %s.", param, quote(string(raw)), known.allowed,
			)
		}
		if known.param == "" {
			continue
		}
		if other, taken := from[known.param]; taken {
			return nil, invalidRequest(
				"invalid_value", param, "generate_kwargs.%s and %s both set the engine's %s: set only one of them.", other, param,
				known.param,
			)
		}
		params[known.param], from[known.param] = value, key
	}
	if sample, ok := params["do_sample"]; ok {
		delete(params, "do_sample")
		if sample == false {
			// Without sampling, the engine uses the most likely token, and parameters of sampling have no effect.
			params["temperature"] = 0
			for _, name := range []string{"top_k", "top_p", "min_p"} {
				delete(params, name)
			}
		}
	}
	return params, nil
}

// cut truncates a client's key for the param of an error.
func cut(key string) string {
	return excerpt.Head(key, 80)
}

func integer(param string, least, most int64) kwarg {
	allowed := fmt.Sprintf("an integer from %d", least)
	switch {
	case least == math.MinInt64:
		allowed = "an integer"
	case most < math.MaxInt32:
		allowed += fmt.Sprintf(" to %d", most)
	}
	return kwarg{param: param, allowed: allowed, parse: func(raw json.RawMessage) (any, bool) {
		var exact int64
		if err := json.Unmarshal(raw, &exact); err == nil {
			return exact, exact >= least && exact <= most
		}
		// JSON encoders that know only floats write integers as 200.0 or 2e2.
		var float float64
		if err := json.Unmarshal(raw, &float); err != nil || float != math.Trunc(float) || math.Abs(float) > math.MaxInt32 {
			return nil, false
		}
		return int64(float), int64(float) >= least && int64(float) <= most
	}}
}

func number(param string, least, most float64) kwarg {
	allowed := fmt.Sprintf("a number from %g to %g", least, most)
	if least == math.SmallestNonzeroFloat64 {
		allowed = fmt.Sprintf("a number above 0, up to %g", most)
	}
	return kwarg{param: param, allowed: allowed, parse: func(raw json.RawMessage) (any, bool) {
		var float float64
		err := json.Unmarshal(raw, &float)
		return float, err == nil && float >= least && float <= most
	}}
}

func boolean(param string) kwarg {
	return kwarg{param: param, allowed: "true or false", parse: func(raw json.RawMessage) (any, bool) {
		var b bool
		err := json.Unmarshal(raw, &b)
		return b, err == nil
	}}
}

func texts(param string) kwarg {
	return kwarg{param: param, allowed: "a string or a list of strings", parse: func(raw json.RawMessage) (any, bool) {
		return oneOrMore[string](raw)
	}}
}

func tokens(param string) kwarg {
	return kwarg{
		param:   param,
		allowed: "a token's number or a list of them",
		parse: func(raw json.RawMessage) (any, bool) {
			return oneOrMore[uint32](raw)
		},
	}
}

// oneOrMore reads a T or a list of T as a list.
func oneOrMore[T any](raw json.RawMessage) ([]T, bool) {
	var one T
	if err := json.Unmarshal(raw, &one); err == nil {
		return []T{one}, true
	}
	var more []T
	err := json.Unmarshal(raw, &more)
	return more, err == nil
}

// only accepts the number that is the engine's behaviour.
func only(allowed string, value float64) kwarg {
	return kwarg{allowed: allowed, parse: func(raw json.RawMessage) (any, bool) {
		var float float64
		err := json.Unmarshal(raw, &float)
		return nil, err == nil && float == value
	}}
}

func onlyFalse(allowed string) kwarg {
	return kwarg{allowed: allowed, parse: func(raw json.RawMessage) (any, bool) {
		var b bool
		err := json.Unmarshal(raw, &b)
		return nil, err == nil && !b
	}}
}
