// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"encoding/json"
	"fmt"
	"strings"
)

// MachineIDs are provider IDs. Their JSON contains the common prefix once: the IDs of a pool's machines have more than
// two hundred characters and differ in the last few. Without this, the IDs of all machines in a cluster would not fit
// into a ConfigMap.
type MachineIDs []string

// sharedIDs is the JSON form.
type sharedIDs struct {
	Prefix string   `json:"prefix"`
	Rest   []string `json:"rest"`
}

// MarshalJSON writes the common prefix and the rest of each ID.
func (m MachineIDs) MarshalJSON() ([]byte, error) {
	if len(m) == 0 {
		return []byte("null"), nil
	}
	out := sharedIDs{Prefix: m[0]}
	for _, id := range m {
		for !strings.HasPrefix(id, out.Prefix) {
			out.Prefix = out.Prefix[:len(out.Prefix)-1]
		}
	}
	for _, id := range m {
		out.Rest = append(out.Rest, id[len(out.Prefix):])
	}
	return json.Marshal(out)
}

// UnmarshalJSON also reads a plain list, which earlier releases wrote.
func (m *MachineIDs) UnmarshalJSON(raw []byte) error {
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		*m = list
		return nil
	}
	var in sharedIDs
	if err := json.Unmarshal(raw, &in); err != nil {
		return fmt.Errorf("machines are neither a list nor a prefix and its rest: %w", err)
	}
	*m = nil
	for _, rest := range in.Rest {
		*m = append(*m, in.Prefix+rest)
	}
	return nil
}
