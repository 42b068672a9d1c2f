// SPDX-License-Identifier: Apache-2.0

// Package catalog holds data about models, GPU sizes, prices and engines. The data is embedded and can be overridden.
// The result of Load never changes and is safe for concurrent use.
package catalog
