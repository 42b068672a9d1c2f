// SPDX-License-Identifier: Apache-2.0

package dataset

import (
	"slices"
	"unicode/utf8"
)

// Rule says how token lengths are estimated: no tokenizer is loaded, as there is a different one for each model. Four
// ASCII characters a token is OpenAI's published rule of thumb for English; other scripts are counted a token a
// character, which overstates them for most tokenizers; four tokens a turn is what common chat templates add.
const Rule = "estimate: ASCII bytes / 4 + other characters, + 4 per turn"

const turnTokens = 4

// bounds of the histogram's buckets in tokens (upper, inclusive): the powers of two that sequence limits come in.
var bounds = [...]int64{64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072}

// Histogram of estimated token lengths of rows.
type Histogram struct {
	Rule string `json:"rule"`
	// Buckets count the rows up to each bound; the last one, without a bound, counts the rest.
	Buckets []Bucket `json:"buckets"`
	P50     int64    `json:"p50"`
	P95     int64    `json:"p95"`
	Max     int64    `json:"max"`
	Sum     int64    `json:"sum"`

	exact map[int64]int64 // rows by length: a few thousand different lengths at most in practice
	rows  int64
}

// Bucket of a histogram.
type Bucket struct {
	UpTo int64 `json:"upTo,omitempty"`
	Rows int64 `json:"rows"`
}

func newHistogram() Histogram {
	h := Histogram{Rule: Rule, exact: map[int64]int64{}}
	for _, b := range bounds {
		h.Buckets = append(h.Buckets, Bucket{UpTo: b})
	}
	h.Buckets = append(h.Buckets, Bucket{})
	return h
}

func estimate(pieces []piece) int64 {
	var ascii, others, turns int64
	for _, p := range pieces {
		if p.turn {
			turns++
		}
		for _, r := range p.text {
			if r < utf8.RuneSelf {
				ascii++
			} else {
				others++
			}
		}
	}
	return (ascii+3)/4 + others + turns*turnTokens
}

func (h *Histogram) add(pieces []piece) {
	n := estimate(pieces)
	i, _ := slices.BinarySearch(bounds[:], n)
	h.Buckets[i].Rows++
	h.exact[n]++
	h.rows++
	h.Sum += n
	h.Max = max(h.Max, n)
}

// finish computes the quantiles (nearest rank).
func (h *Histogram) finish() {
	lengths := make([]int64, 0, len(h.exact))
	for n := range h.exact {
		lengths = append(lengths, n)
	}
	slices.Sort(lengths)
	quantile := func(percent int64) int64 {
		rank, seen := (h.rows*percent+99)/100, int64(0)
		for _, n := range lengths {
			if seen += h.exact[n]; seen >= rank {
				return n
			}
		}
		return 0
	}
	h.P50, h.P95 = quantile(50), quantile(95)
}
