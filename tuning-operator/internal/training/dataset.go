// SPDX-License-Identifier: Apache-2.0

package training

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// datasetKeys are the keys of the section DatasetConfig.
var datasetKeys = []string{
	"messages_column", "context_column", "response_column", "dataset_path", "dataset_extension", "shuffle_dataset",
	"shuffle_seed", "train_test_split", "max_truncated_answers",
}

// dataset reads the section DatasetConfig. The defaults are KAITO's shuffle_seed and the split of its templates.
func (c *Config) dataset(in sectionMap) error {
	d := Dataset{Shuffle: true, Seed: 42, TrainFraction: 1}
	for _, key := range slices.Sorted(maps.Keys(in[sectionDataset])) {
		if !slices.Contains(datasetKeys, key) {
			return &ConfigError{
				Key: sectionDataset + "." + key, Why: "is unknown: use one of " + strings.Join(datasetKeys, ", "),
			}
		}
	}
	for _, read := range []func(sectionMap, *Dataset) error{c.columns, c.datasetPath, c.split} {
		if err := read(in, &d); err != nil {
			return err
		}
	}
	c.Dataset = d
	return nil
}

// columns reads the columns that are used for training.
func (c *Config) columns(in sectionMap, d *Dataset) (err error) {
	if d.MessagesColumn, err = text(in, sectionDataset, "messages_column"); err != nil {
		return err
	}
	context, err := text(in, sectionDataset, "context_column")
	if err != nil {
		return err
	}
	response, err := text(in, sectionDataset, "response_column")
	if err != nil {
		return err
	}
	switch {
	case d.MessagesColumn != "" && context != "":
		return &ConfigError{
			Key:           sectionDataset + ".messages_column and context_column",
			Contradiction: true,
			Why:           "name two formats of data; keep one",
		}
	case d.MessagesColumn != "":
	case context != "" && response == "":
		return &ConfigError{Key: sectionDataset + ".context_column", Why: "requires response_column"}
	case context != "":
		d.PromptColumn, d.CompletionColumn = context, response
	case response != "":
		d.TextColumn = response
	}
	return nil
}

// split reads the order of the rows and the part of them that is used for training.
func (c *Config) split(in sectionMap, d *Dataset) error {
	if shuffle, set, err := truth(in, sectionDataset, "shuffle_dataset"); err != nil {
		return err
	} else if set {
		d.Shuffle = shuffle
	}
	if seed, set, err := number(in, sectionDataset, "shuffle_seed"); err != nil {
		return err
	} else if set {
		d.Seed = int64(seed)
	}
	if f, set, err := number(in, sectionDataset, "train_test_split"); err != nil {
		return err
	} else if set {
		if f <= 0 || f > 1 {
			return &ConfigError{
				Key: sectionDataset + ".train_test_split",
				Why: fmt.Sprintf("is %v: use more than 0 and at most 1", f),
			}
		}
		d.TrainFraction = f
	}
	if f, set, err := number(in, sectionDataset, "max_truncated_answers"); err != nil {
		return err
	} else if set {
		if f < 0 || f > 1 {
			return &ConfigError{
				Key: sectionDataset + ".max_truncated_answers", Why: fmt.Sprintf("is %v: use a share of the rows, from 0 to 1", f),
			}
		}
		d.MaxTruncatedAnswers = &f
	}
	return nil
}

// datasetPath returns the path of a file or folder of the input, which is relative to /data as in KAITO.
func (c *Config) datasetPath(in sectionMap, d *Dataset) error {
	p, err := text(in, sectionDataset, "dataset_path")
	if err != nil || p == "" {
		return err
	}
	clean := strings.TrimPrefix(strings.TrimPrefix(path.Clean("/"+p), "/data/"), "/")
	if strings.Contains(p, "..") || clean == "" {
		return &ConfigError{
			Key: sectionDataset + ".dataset_path",
			Why: fmt.Sprintf("is %q: use a path inside of the dataset", p),
		}
	}
	d.Path = clean
	return nil
}
