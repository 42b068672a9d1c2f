// SPDX-License-Identifier: Apache-2.0

// Package reason says what the reasons of conditions mean for the person who reads them.
package reason
