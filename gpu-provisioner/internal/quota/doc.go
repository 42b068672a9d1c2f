// SPDX-License-Identifier: Apache-2.0

// Package quota checks whether the subscription's quota has room for machines before Azure is asked to create them.
package quota
