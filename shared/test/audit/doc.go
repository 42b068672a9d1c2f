// SPDX-License-Identifier: Apache-2.0

// Package audit counts requests with the audit log of the API server, so that a test can prove the cost of an operator:
// no write in an idle minute, a number of requests for a Workspace.
package audit
