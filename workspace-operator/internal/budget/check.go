// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"fmt"
	"slices"
	"strings"

	kaitov1alpha1 "kaito.sh/shared/api/kaito/v1alpha1"
)

// Wish is what a Workspace wants to rent, all of it or nothing.
type Wish struct {
	InstanceType string
	CapacityType kaitov1alpha1.CapacityType
	// Nodes is the number of nodes, Bill what each of them counts for.
	Nodes int
	Bill  Bill
}

// Excess says which budget does not allow a Wish, and why.
type Excess struct {
	// What has the numbers: the budget, its limits, the use, and the wish. It stays the same while these do.
	What string
	// Whose names the Workspaces that use the budget.
	Whose string
	// Remedy says what to do.
	Remedy string
}

// String is the whole message.
func (e *Excess) String() string {
	return strings.Join(
		slices.DeleteFunc([]string{e.What, e.Whose, e.Remedy}, func(s string) bool { return s == "" }), ". ",
	)
}

// Check returns the first budget that does not allow a Wish on top of what is used, with all of its limits that the
// Wish would exceed; nil: all budgets allow it.
func Check(budgets []kaitov1alpha1.GPUBudget, used Use, shares []Share, w Wish) *Excess {
	for i := range budgets {
		b := &budgets[i]
		over := append(forbidden(b, w), exceeded(b, used, w)...)
		if len(over) == 0 {
			continue
		}
		return &Excess{
			What:  fmt.Sprintf("GPUBudget %s/%s does not allow %s: %s", b.Namespace, b.Name, w, strings.Join(over, "; ")),
			Whose: whose(shares),
			Remedy: fmt.Sprintf(
				"Delete a Workspace, or set its resource.count to 0, or ask the administrator of the namespace to raise the limits of GPUBudget %s. The Workspace continues when there is room. kubectl get gpubudget %s -n %s -o yaml shows the present use",
				b.Name, b.Name, b.Namespace,
			),
		}
	}
	return nil
}

// Forbids returns why the limits of the budgets could never allow so many nodes, even if nothing is in use; empty: they
// could.
func Forbids(budgets []kaitov1alpha1.GPUBudget, w Wish) string {
	for i := range budgets {
		b := &budgets[i]
		if over := append(forbidden(b, w), exceeded(b, Use{}, w)...); len(over) > 0 {
			return fmt.Sprintf("GPUBudget %s/%s does not allow it: %s", b.Namespace, b.Name, strings.Join(over, "; "))
		}
	}
	return ""
}

// Over says which limits a use exceeds.
func Over(b *kaitov1alpha1.GPUBudget, used Use) []string { return exceeded(b, used, Wish{}) }

// String is the Wish in words.
func (w Wish) String() string {
	cost := "an unknown price"
	if w.Bill.Priced {
		cost = w.Bill.Cost.String() + " USD an hour"
	}
	return fmt.Sprintf(
		"%s of size %s (%s; %s and %s each)", count(int64(w.Nodes), "new node"), w.InstanceType, w.CapacityType,
		count(w.Bill.GPUs, "GPU"), cost,
	)
}

// forbidden are the limits on what a node is.
func forbidden(b *kaitov1alpha1.GPUBudget, w Wish) []string {
	var out []string
	if allowed := b.Spec.AllowedInstanceTypes; len(allowed) > 0 &&
		!slices.ContainsFunc(allowed, func(t string) bool { return strings.EqualFold(t, w.InstanceType) }) {
		out = append(out, "spec.allowedInstanceTypes has "+strings.Join(allowed, ", "))
	}
	if allowed := b.Spec.AllowedCapacityTypes; len(allowed) > 0 && !slices.Contains(allowed, w.CapacityType) {
		out = append(out, fmt.Sprintf("spec.allowedCapacityTypes has %s", join(allowed)))
	}
	if b.Spec.MaxCostPerHour != "" && !w.Bill.Priced {
		out = append(out, fmt.Sprintf("spec.maxCostPerHour is %s, and no price of the size is known", b.Spec.MaxCostPerHour))
	}
	return out
}

// exceeded are the limits on how much there is.
func exceeded(b *kaitov1alpha1.GPUBudget, used Use, w Wish) []string {
	want := w.Bill.Times(w.Nodes)
	var out []string
	number := func(field string, limit *int32, used, want int64) {
		if limit == nil || used+want <= int64(*limit) {
			return
		}
		out = append(out, numbers(field, fmt.Sprint(*limit), fmt.Sprint(used), fmt.Sprint(want), used == 0, want == 0))
	}
	number("spec.maxNodes", b.Spec.MaxNodes, used.Nodes, want.Nodes)
	number("spec.maxGPUs", b.Spec.MaxGPUs, used.GPUs, want.GPUs)
	if b.Spec.MaxCostPerHour == "" {
		return out
	}
	limit, err := ParseMoney(b.Spec.MaxCostPerHour)
	switch {
	case err != nil: // the schema refuses it
		out = append(out, "spec.maxCostPerHour: "+err.Error())
	case used.Unpriced > 0 && w.Nodes > 0:
		out = append(
			out,
			fmt.Sprintf(
				"spec.maxCostPerHour is %s, and the price of %s in use is not known", b.Spec.MaxCostPerHour,
				count(used.Unpriced, "node"),
			),
		)
	case used.Cost+want.Cost > limit:
		out = append(
			out,
			numbers(
				"spec.maxCostPerHour", b.Spec.MaxCostPerHour, used.Cost.String(), want.Cost.String(), used.Cost == 0,
				want.Cost == 0,
			),
		)
	}
	return out
}

// numbers puts a limit that is exceeded into words; unused and unwanted leave out a number that is 0.
func numbers(field, limit, used, want string, unused, unwanted bool) string {
	switch {
	case unwanted:
		return fmt.Sprintf("%s is %s, and %s are in use", field, limit, used)
	case unused:
		return fmt.Sprintf("%s is %s, and %s are wanted", field, limit, want)
	}
	return fmt.Sprintf("%s is %s, %s are in use, and %s more are wanted", field, limit, used, want)
}

// shownUsers is how many Workspaces a message names.
const shownUsers = 3

func whose(shares []Share) string {
	if len(shares) == 0 {
		return ""
	}
	var names []string
	for i, s := range shares {
		if i == shownUsers {
			names = append(names, fmt.Sprintf("and %s", count(int64(len(shares)-i), "more Workspace")))
			break
		}
		names = append(names, fmt.Sprintf("%s (%s)", s.Workspace, count(s.Nodes, "node")))
	}
	return "In use by " + strings.Join(names, ", ") + " when this was written"
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func join[T ~string](values []T) string {
	var out []string
	for _, v := range values {
		out = append(out, string(v))
	}
	return strings.Join(out, ", ")
}
