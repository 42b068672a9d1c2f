// SPDX-License-Identifier: Apache-2.0

package plan

import "fmt"

// warnings are what the user should know of the best plan: a size that Azure retires or that needs something, and a
// context below the model's. Existing nodes, and sizes that the user names, are used nevertheless.
func (q *question) warnings(best *Plan, feasible []*Plan) []string {
	var out []string
	if s := best.Size; s.Retired != "" {
		out = append(out, fmt.Sprintf(
			"Azure has retired %s on %s, and creates none any more: use %s", s.Name, s.Retired, s.ReplacedBy,
		))
	}
	if s := best.Size; s.Needs != "" {
		out = append(out, fmt.Sprintf("nodes of size %s need %s", s.Name, s.Needs))
	}
	if q.request.Mode != ModeInference || q.config.MaxModelLen > 0 || best.MaxModelLen >= q.model.Context {
		return out
	}
	text := fmt.Sprintf("the context is %d of the model's %d tokens", best.MaxModelLen, q.model.Context)
	var whole *Plan
	for _, p := range feasible {
		if p.MaxModelLen == q.model.Context && (whole == nil || preferred(p, whole) < 0) {
			whole = p
		}
	}
	if whole != nil {
		text += fmt.Sprintf("; %d × %s holds the whole", whole.Nodes, whole.InstanceType)
		if whole.Priced {
			text += fmt.Sprintf(", at $%.2f an hour", whole.CostPerHour)
		}
	}
	return append(out, text)
}
