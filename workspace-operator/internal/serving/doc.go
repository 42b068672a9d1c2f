// SPDX-License-Identifier: Apache-2.0

// Package serving builds what serves a model: a Deployment (or, for several nodes, a StatefulSet) of engine and
// gateway, and a Service. Builders are pure: the same input gives the same bytes.
package serving
