// SPDX-License-Identifier: Apache-2.0

package fetch

// ParseContentRange exports parseContentRange for the fuzz test.
var ParseContentRange = parseContentRange
