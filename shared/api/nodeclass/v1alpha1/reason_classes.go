// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "kaito.sh/shared/api/reason"

// ReasonClasses has the class of every reason of a node class.
var ReasonClasses = map[string]reason.Class{
	ReasonValid:       reason.Final,
	ReasonInvalidSpec: reason.Stalled,
}
