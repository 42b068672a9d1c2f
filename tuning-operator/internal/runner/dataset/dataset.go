// SPDX-License-Identifier: Apache-2.0

package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// Format is the format of a data file.
type Format string

// The supported formats.
const (
	Parquet Format = "parquet"
	JSONL   Format = "jsonl"
	JSON    Format = "json"
	CSV     Format = "csv"
)

// Columns names the columns to train on. Empty ones have the default names of TRL.
type Columns struct {
	Messages, Prompt, Completion, Text string
}

// explicit returns whether any column is named.
func (c Columns) explicit() bool { return c != Columns{} }

// Report is the result of the check.
type Report struct {
	Files []string `json:"files"`
	// HeldOut are files that are not trained on: their names say that they are for tests or for validation.
	HeldOut []string `json:"heldOut,omitempty"`
	Format  Format   `json:"format"`
	Schema  Schema   `json:"schema"`
	Rows    int64    `json:"rows"`
	Bytes   int64    `json:"bytes"`
	// Digest is the SHA-256 of the sorted lines "<SHA-256 of a file>  <its name>", as sha256sum prints them.
	Digest string    `json:"digest"`
	Tokens Histogram `json:"tokens"`
}

// BadRowError names the first row that cannot be used for training.
type BadRowError struct {
	File string
	// Row counts from 1. It is 0 if the file is unreadable.
	Row int64
	Why string
}

func (e *BadRowError) Error() string {
	if e.Row == 0 {
		return fmt.Sprintf("dataset file %s: %s", e.File, e.Why)
	}
	return fmt.Sprintf("dataset file %s, row %d: %s", e.File, e.Row, e.Why)
}

func invalid(err error) error {
	return &fault.Fault{Reason: tuningv1alpha1.ReasonDatasetInvalid, Permanent: true, Err: err}
}

// Inspect reads every row of the data files below dir, or below the file or folder path in it. All files must have the
// same format and schema. The error for an invalid dataset is permanent. It holds a *BadRowError if a row is invalid.
func Inspect(dir, path string, columns Columns) (Report, error) {
	names, err := list(dir, path)
	if err != nil {
		return Report{}, err
	}
	if len(names) == 0 {
		return Report{}, invalid(fmt.Errorf("no parquet, jsonl, json or csv file was found in the dataset"))
	}
	report := Report{Tokens: newHistogram()}
	report.Files, report.HeldOut = training(names)
	sums := sha256.New()
	for _, name := range report.Files {
		sum, size, err := digest(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return Report{}, err
		}
		report.Bytes += size
		// Writes to a sha256.Hash do not fail.
		_, _ = fmt.Fprintf(sums, "%s  %s\n", sum, name)
		if err := report.file(dir, name, columns); err != nil {
			return Report{}, err
		}
	}
	if report.Rows == 0 {
		return Report{}, invalid(fmt.Errorf("the dataset has no rows (files: %s)", strings.Join(report.Files, ", ")))
	}
	report.Tokens.finish()
	report.Digest = "sha256:" + hex.EncodeToString(sums.Sum(nil))
	return report, nil
}

func (r *Report) file(dir, name string, columns Columns) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	format, err := sniff(path)
	var broken *unreadableError
	if errors.As(err, &broken) {
		return invalid(&BadRowError{File: name, Why: broken.why})
	}
	if err != nil {
		return err
	}
	if r.Format == "" {
		r.Format = format
	}
	if format != r.Format {
		return invalid(
			&BadRowError{
				File: name,
				Why:  fmt.Sprintf("its format is %s, but that of the earlier files is %s; use one format", format, r.Format),
			},
		)
	}
	err = rows(path, format, func(n int64, row map[string]any) error {
		if r.Schema.Kind == "" {
			s, err := detect(row, columns)
			if err != nil {
				return &BadRowError{File: name, Row: n, Why: err.Error()}
			}
			r.Schema = s
		}
		text, err := r.Schema.check(row)
		if err != nil {
			return &BadRowError{File: name, Row: n, Why: err.Error()}
		}
		r.Rows++
		r.Tokens.add(text)
		return nil
	})
	var bad *BadRowError
	switch {
	case errors.As(err, &bad):
		return invalid(bad)
	case errors.As(err, &broken):
		return invalid(&BadRowError{File: name, Row: broken.row, Why: broken.Error()})
	}
	return err
}

// list returns the data files below a folder. Hidden files and dataset_infos.json (an index of older HuggingFace
// datasets) are not data files.
func list(dir, path string) ([]string, error) {
	var names []string
	start := filepath.Join(dir, filepath.FromSlash(path))
	if !filepath.IsLocal(filepath.Join(".", filepath.FromSlash(path))) {
		return nil, invalid(fmt.Errorf("dataset path %q is outside of the dataset", path))
	}
	if _, err := os.Stat(start); errors.Is(err, fs.ErrNotExist) {
		return nil, invalid(fmt.Errorf("dataset path %q does not exist in the dataset", path))
	}
	err := filepath.WalkDir(start, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") && p != dir {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		switch strings.ToLower(filepath.Ext(d.Name())) {
		case ".parquet", ".jsonl", ".json", ".csv":
		default:
			return nil
		}
		if d.IsDir() || d.Name() == "dataset_infos.json" || d.Name() == "dataset_info.json" || d.Name() == "state.json" {
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		names = append(names, filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing the dataset: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

func digest(path string) (string, int64, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("reading the dataset: %w", err)
	}
	defer func() { _ = in.Close() }()
	h := sha256.New()
	n, err := in.WriteTo(h)
	if err != nil {
		return "", 0, fmt.Errorf("reading the dataset: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}
