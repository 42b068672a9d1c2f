// SPDX-License-Identifier: Apache-2.0

// Package foreign tells which kinds of other operators the cluster serves, and watches each kind while it is served. An
// absent kind is a state: nothing fails or has to be restarted when a definition is installed later or deleted.
//
// What is served is read from the cached CustomResourceDefinitions, so asking costs no request.
package foreign
