// SPDX-License-Identifier: Apache-2.0

package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"

	"golang.org/x/text/encoding"
)

// object decodes a row. encoding/json reads what the trainer's libraries do not: half a character.
func object(raw []byte) (map[string]any, error) {
	var row map[string]any
	if err := json.Unmarshal(raw, &row); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	if row == nil {
		return nil, errors.New("not a JSON object: null")
	}
	if half := halfCharacter(raw); half != "" {
		return nil, fmt.Errorf("has the half of a character, %s: write the text as UTF-8", half)
	}
	return row, nil
}

// escapes are the escapes of UTF-16 in JSON; an escaped backslash is one, too, so that what follows it is not.
var escapes = regexp.MustCompile(`\\\\|\\u[0-9a-fA-F]{4}`)

// The two halves of a character beyond the first 65,536.
var (
	highHalf = regexp.MustCompile(`^\\u[dD][89abAB]`)
	lowHalf  = regexp.MustCompile(`^\\u[dD][c-fC-F]`)
)

// halfCharacter returns the first escape of a surrogate without its other half.
func halfCharacter(raw []byte) string {
	if !bytes.Contains(raw, []byte(`\u`)) {
		return ""
	}
	found := escapes.FindAllIndex(raw, -1)
	for i := 0; i < len(found); i++ {
		first := raw[found[i][0]:found[i][1]]
		switch {
		case !highHalf.Match(first) && !lowHalf.Match(first):
		case highHalf.Match(first) && lowHalf.Match(raw[found[i][1]:]):
			i++ // both halves
		default:
			return string(first)
		}
	}
	return ""
}

// unreadable is an error of a reader from a row on; nil stays nil. An error of the disk stays what it is: another
// attempt may read the file.
func unreadable(row int64, err error) error {
	var disk *fs.PathError
	switch {
	case err == nil || errors.As(err, &disk):
		return err
	case errors.Is(err, encoding.ErrInvalidUTF8):
		return &unreadableError{row: row, why: "the text is not UTF-8: save the file as UTF-8"}
	}
	return &unreadableError{row: row, why: err.Error()}
}

// notData says what a file is that a server or a repository has in place of the data; empty: it may be data.
func notData(head []byte) string {
	start := bytes.ToLower(head[:min(len(head), 64)])
	switch {
	case bytes.HasPrefix(start, []byte("<!doctype html")), bytes.HasPrefix(start, []byte("<html")):
		return "it is a page of HTML: the address is that of a page, or needs a login"
	case bytes.HasPrefix(start, []byte("<?xml")):
		return "it is XML, which servers answer with where they refuse: open the address to see why"
	case bytes.HasPrefix(start, []byte("version https://git-lfs")):
		return "it is a pointer of Git LFS: the file itself is not in the repository's folder; fetch it with git lfs pull, and upload that"
	}
	return ""
}
