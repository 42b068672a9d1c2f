// SPDX-License-Identifier: Apache-2.0

// Package redact removes the secrets of URLs from texts that people see. A URL may have a signature in its query (an
// Azure SAS, an S3 presigned URL) or a password before its host. Errors of net/http quote whole URLs, also those of
// redirects, and end up in logs, conditions and events.
package redact
