// SPDX-License-Identifier: Apache-2.0

// Package crds holds the generated CustomResourceDefinitions of all kinds, for tests and installers.
package crds
