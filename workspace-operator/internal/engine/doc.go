// SPDX-License-Identifier: Apache-2.0

// Package engine is what the planner and the serving pods need of an inference engine: how it reads its configuration,
// which flags a plan gives it, how it is started, and what it logs when it fails. Each engine has a folder of its own
// below this one. A new version of an engine changes that folder and the catalogue only.
package engine
