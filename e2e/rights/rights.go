// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Right is one verb of one rule. A subresource follows its resource after a slash, as in rules.
type Right struct {
	Group    string `json:"group,omitempty"`
	Resource string `json:"resource"`
	Verb     string `json:"verb"`
}

func (r Right) String() string {
	if r.Group == "" {
		return r.Verb + " " + r.Resource
	}
	return r.Verb + " " + r.Resource + "." + r.Group
}

// Kind is the group and the resource without its subresource.
func (r Right) Kind() string {
	resource, _, _ := strings.Cut(r.Resource, "/")
	return r.Group + "/" + resource
}

// Of returns the rights that roles of those kinds (Role, ClusterRole) grant through a binding among the objects. Roles
// for users have no binding here.
func Of(objects []*unstructured.Unstructured, kinds ...string) (map[Right]bool, error) {
	out := map[Right]bool{}
	for _, u := range objects {
		if !slices.Contains(kinds, u.GetKind()) || !bound(objects, u) {
			continue
		}
		role := &rbacv1.ClusterRole{} // a Role's rules are alike
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, role); err != nil {
			return nil, fmt.Errorf("reading %s %s: %w", u.GetKind(), u.GetName(), err)
		}
		for _, rule := range role.Rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						out[Right{group, resource, verb}] = true
					}
				}
			}
		}
	}
	return out, nil
}

func bound(objects []*unstructured.Unstructured, role *unstructured.Unstructured) bool {
	return slices.ContainsFunc(objects, func(u *unstructured.Unstructured) bool {
		ref, found, err := unstructured.NestedStringMap(u.Object, "roleRef")
		return err == nil && found && ref["kind"] == role.GetKind() && ref["name"] == role.GetName()
	})
}

// Sorted are the rights of a set, by kind and verb.
func Sorted[V any](set map[Right]V) []Right {
	var out []Right
	for r := range set {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Right) int {
		return cmp.Or(
			strings.Compare(a.Group, b.Group), strings.Compare(a.Resource, b.Resource), strings.Compare(a.Verb, b.Verb),
		)
	})
	return out
}

// Unused returns the rights that no call needed and that are not in the list of kept rights; stale are kept rights that
// no role has.
func Unused(operator string, allowed map[Right]bool, used map[Right]int) (unused, stale []Right) {
	kept := map[Right]bool{}
	for _, k := range Kept {
		if k.Operator != operator {
			continue
		}
		for _, verb := range k.Verbs {
			kept[Right{k.Group, k.Resource, verb}] = true
		}
	}
	left := map[Right]bool{}
	for r := range allowed {
		if used[r] == 0 && !kept[r] && !implied(r, used) {
			left[r] = true
		}
	}
	gone := map[Right]bool{}
	for r := range kept {
		if !allowed[r] {
			gone[r] = true
		}
	}
	return Sorted(left), Sorted(gone)
}

// Rare are the rights that stacks have used, but no more than so many of them: they hang on one story, which should
// need them each time.
func Rare(used map[Right]int, stacks int) []Right {
	rare := maps.Clone(used)
	maps.DeleteFunc(rare, func(_ Right, n int) bool { return n > stacks })
	return Sorted(rare)
}

// implied: an informer lists only where the API server can't begin a watch with what there is (KEP-3157), and otherwise
// watches.
func implied(r Right, used map[Right]int) bool {
	return r.Verb == "list" && used[Right{r.Group, r.Resource, "watch"}] > 0
}
