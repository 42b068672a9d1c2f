// SPDX-License-Identifier: Apache-2.0

// Package authority is a certificate authority for the servers of tests: real TLS, trusted by configured clients.
package authority
