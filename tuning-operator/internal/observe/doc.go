// SPDX-License-Identifier: Apache-2.0

// Package observe derives the state of a TuningJob from its Job and pods, with the reasons of the API. It is pure: it
// makes no requests.
package observe
