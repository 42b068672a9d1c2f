// SPDX-License-Identifier: Apache-2.0

// Package retry repeats operations that may succeed later, with growing pauses on an injected clock.
package retry
