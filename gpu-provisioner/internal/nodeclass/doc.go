// SPDX-License-Identifier: Apache-2.0

// Package nodeclass validates KaitoNodeClasses and creates the default one.
package nodeclass
