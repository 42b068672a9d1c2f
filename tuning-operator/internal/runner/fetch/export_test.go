// SPDX-License-Identifier: Apache-2.0

package fetch

// ParseContentRange is for the fuzzer.
var ParseContentRange = parseContentRange
