// SPDX-License-Identifier: Apache-2.0

// Package weather has faults of Azure for random tests, and converts the state of the fake Azure for the invariants.
package weather
