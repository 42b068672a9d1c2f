// SPDX-License-Identifier: Apache-2.0

package independence_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"kaito.sh/e2e/stack"
	"kaito.sh/e2e/stack/stacktest"
)

// ordersVariable set to "all" has every order tried: two minutes more.
const ordersVariable = "KAITO_INSTALL_ORDERS"

// orders in which three operators can be installed.
func orders() [][]stack.Operator {
	readme := []stack.Operator{stack.WorkspaceOperator, stack.TuningOperator, stack.GPUProvisioner}
	reverse := slices.Clone(readme)
	slices.Reverse(reverse)
	if os.Getenv(ordersVariable) != "all" {
		return [][]stack.Operator{readme, reverse}
	}
	var all [][]stack.Operator
	for i := range readme {
		for j := range readme {
			if i != j {
				all = append(all, []stack.Operator{readme[i], readme[j], readme[3-i-j]})
			}
		}
	}
	return all
}

func TestTheThreeAreInstalledInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, order := range orders() {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			s := startStack(t, stack.Options{Operators: []stack.Operator{}, WithoutKarpenterCRDs: true})
			for _, o := range order {
				folder := string(o) + "/config/default"
				if o == stack.GPUProvisioner {
					folder = string(o) + "/config/with-karpenter-crds" // as the README has it
				}
				require.NoError(t, s.InstallFrom(t.Context(), o, folder))
				require.NoError(t, s.Run(t.Context(), o))
				if o == stack.WorkspaceOperator {
					stacktest.QuickStart(t, s) // a user who does not wait for the others
				}
			}
			stacktest.EventuallyWorkspace(t, s, stacktest.QuickStartName, stacktest.Ready)
		})
	}
}
