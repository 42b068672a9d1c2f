// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"kaito.sh/shared/test/audit"
)

// CallsFolder is the environment variable that names the folder in which stacks leave which rights their operators have
// used.
const CallsFolder = "KAITO_RBAC_CALLS"

// Used are the rights that requests have needed, denied ones apart.
func Used(requests []audit.Request) map[Right]bool {
	out := map[Right]bool{}
	for _, r := range requests {
		if r.Resource == "" || r.Denied {
			continue
		}
		right := Right{Group: r.Group, Resource: r.Resource, Verb: r.Verb}
		if r.Subresource != "" {
			right.Resource += "/" + r.Subresource
		}
		out[right] = true
		if r.Verb == "patch" && r.Code == http.StatusCreated {
			right.Verb = "create" // server-side apply of what is not there needs both
			out[right] = true
		}
	}
	return out
}

// Save leaves the rights that an operator has used in a file of its own in the folder.
func Save(folder, operator string, used map[Right]bool) error {
	text, err := json.Marshal(Sorted(used))
	if err != nil {
		return fmt.Errorf("writing the calls of %s: %w", operator, err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("writing the calls of %s: %w", operator, err)
	}
	file, err := os.CreateTemp(folder, operator+".*.json")
	if err != nil {
		return fmt.Errorf("writing the calls of %s: %w", operator, err)
	}
	if _, err := file.Write(text); err != nil {
		_ = file.Close() // the first error says what is wrong
		return fmt.Errorf("writing the calls of %s: %w", operator, err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("writing the calls of %s: %w", operator, err)
	}
	return nil
}

// Load is how many stacks have used each right of an operator, of those that Save has left in the folder, and how many
// stacks there are.
func Load(folder, operator string) (used map[Right]int, stacks int, err error) {
	files, err := filepath.Glob(filepath.Join(folder, operator+".*.json"))
	if err != nil {
		return nil, 0, fmt.Errorf("reading the calls of %s: %w", operator, err)
	}
	used = map[Right]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, 0, fmt.Errorf("reading the calls of %s: %w", operator, err)
		}
		var some []Right
		if err := json.Unmarshal(text, &some); err != nil {
			return nil, 0, fmt.Errorf("reading the calls of %s: %s: %w", operator, file, err)
		}
		for _, r := range some {
			used[r]++
		}
	}
	return used, len(files), nil
}
