// SPDX-License-Identifier: Apache-2.0

package dataset

import (
	"slices"
	"strings"
)

// The words by which HuggingFace's datasets library tells splits from the names of files and folders
// (datasets/data_files.py, SPLIT_KEYWORDS).
var (
	trainingWords = []string{"train", "training"}
	heldOutWords  = []string{"validation", "valid", "dev", "val", "test", "testing", "eval", "evaluation"}
)

// HeldOut returns whether a file belongs to a test or validation split, by its path.
func HeldOut(name string) bool {
	words := words(name)
	return slices.ContainsFunc(words, contained(heldOutWords)) && !slices.ContainsFunc(words, contained(trainingWords))
}

// training splits the files into those to train on and those that are held out. Held-out files are trained on where
// there are no others: their name was the user's choice.
func training(names []string) (used, heldOut []string) {
	for _, name := range names {
		if HeldOut(name) {
			heldOut = append(heldOut, name)
		} else {
			used = append(used, name)
		}
	}
	if len(used) == 0 {
		return heldOut, nil
	}
	return used, heldOut
}

// words are the parts of a path between its separators.
func words(name string) []string {
	const separators = "-._ 0123456789/"
	return strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return strings.ContainsRune(separators, r) })
}

func contained(in []string) func(string) bool {
	return func(word string) bool { return slices.Contains(in, word) }
}
