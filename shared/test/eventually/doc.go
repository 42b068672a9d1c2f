// SPDX-License-Identifier: Apache-2.0

// Package eventually holds the only timeouts for the waits of tests, so that one edit adapts them to a slow machine.
package eventually
