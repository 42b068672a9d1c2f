// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// list prints every image and ends with the count of those without a digest.
func list(out io.Writer, all []reference) error {
	unpinned := 0
	for _, r := range all {
		state := "pinned"
		if r.digest == "" {
			state = "NOT PINNED"
			unpinned++
		}
		_, _ = fmt.Fprintf(out, "%-10s  %s:%d  %s\n", state, r.file, r.line, r.text())
	}
	_, _ = fmt.Fprintf(out, "%d of %d images have no digest\n", unpinned, len(all))
	return nil
}

// check compares every image with its registry's answer. The error counts the differences; out names each.
func check(ctx context.Context, out io.Writer, r resolver, all []reference) error {
	wrong := 0
	for _, a := range ask(ctx, r, all) {
		switch {
		case a.err != nil:
			_, _ = fmt.Fprintf(out, "UNKNOWN     %s:%d  %v\n", a.file, a.line, a.err)
		case a.digest == "":
			_, _ = fmt.Fprintf(out, "NOT PINNED  %s:%d  %s is %s now\n", a.file, a.line, a.tagged, a.now)
		case a.digest != a.now:
			_, _ = fmt.Fprintf(out, "CHANGED     %s:%d  %s is %s now\n", a.file, a.line, a.text(), a.now)
		default:
			continue
		}
		wrong++
	}
	if wrong > 0 {
		return fmt.Errorf(
			"%d of %d images are not at the digest of their tag: `make digests` writes what the registries answer",
			wrong,
			len(all),
		)
	}
	_, _ = fmt.Fprintf(out, "%d images are at the digest of their tag\n", len(all))
	return nil
}

// update writes the registries' answers into the files. The error names the images without an answer: they are as
// before.
func update(ctx context.Context, out io.Writer, root string, r resolver, all []reference) error {
	var failed []error
	changes := map[string][]answer{}
	for _, a := range ask(ctx, r, all) {
		switch {
		case a.err != nil:
			failed = append(failed, fmt.Errorf("%s:%d: %w", a.file, a.line, a.err))
		case a.digest != a.now:
			changes[a.file] = append(changes[a.file], a)
			_, _ = fmt.Fprintf(out, "%s:%d  %s → %s@%s\n", a.file, a.line, a.text(), a.tagged, a.now)
		}
	}
	for file, answers := range changes {
		if err := rewrite(filepath.Join(root, filepath.FromSlash(file)), answers); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// answer is an image and the digest that its tag has now, or why that is unknown.
type answer struct {
	reference
	now string
	err error
}

// ask asks once for each tag.
func ask(ctx context.Context, r resolver, all []reference) []answer {
	known := map[string]answer{}
	answers := make([]answer, 0, len(all))
	for _, one := range all {
		a, asked := known[one.tagged]
		if !asked {
			a.now, a.err = r.digest(ctx, one.tagged)
			known[one.tagged] = a
		}
		a.reference = one
		answers = append(answers, a)
	}
	return answers
}

// rewrite puts the digests into the lines, and changes nothing else of the file.
func rewrite(path string, answers []answer) error {
	content, err := os.ReadFile(path) //nolint:gosec // a file that find has read
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	lines := strings.Split(string(content), "\n")
	for _, a := range answers {
		line := &lines[a.line-1]
		*line = strings.Replace(*line, a.text(), a.tagged+"@"+a.now, 1)
	}
	return os.WriteFile(path, []byte(strings.Join(lines, "\n")), info.Mode().Perm())
}
