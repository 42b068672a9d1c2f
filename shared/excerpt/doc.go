// SPDX-License-Identifier: Apache-2.0

// Package excerpt shortens texts to the length that a field allows: the note of an event, the message of a condition,
// the termination message of a container. It never cuts a character, because the API server and its clients refuse or
// garble invalid UTF-8.
package excerpt
