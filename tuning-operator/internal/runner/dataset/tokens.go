// SPDX-License-Identifier: Apache-2.0

package dataset

import (
	"slices"
	"unicode/utf8"
)

// Rule describes the estimate of token lengths. No tokenizer is loaded, because each model has its own. Four ASCII
// characters per token is OpenAI's published rule of thumb for English. Each other character counts as a token, which
// is too high for most tokenizers. Common chat templates add four tokens per turn.
const Rule = "estimate: ASCII bytes / 4 + other characters, + 4 per turn"

const turnTokens = 4

// bounds are the inclusive upper bounds of the buckets in tokens: common sequence limits, which are powers of two.
var bounds = [...]int64{64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072}

// Histogram counts rows by their estimated length in tokens.
type Histogram struct {
	Rule string `json:"rule"`
	// Buckets count the rows up to each bound. The last one has no bound and counts the others.
	Buckets []Bucket `json:"buckets"`
	P50     int64    `json:"p50"`
	P95     int64    `json:"p95"`
	Max     int64    `json:"max"`
	Sum     int64    `json:"sum"`

	exact map[int64]int64 // rows by length: in practice at most a few thousand lengths
	rows  int64
}

// Bucket is one bucket of a histogram.
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
