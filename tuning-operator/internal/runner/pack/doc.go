// SPDX-License-Identifier: Apache-2.0

// Package pack turns a folder into an OCI image with its files below /data. A cluster can mount it as an image volume,
// or an init container can copy it. The same folder gives the same bytes on every machine: names are sorted; times,
// owners and modes are fixed; and layers are not compressed (weights do not compress, and the output of compressors
// changes with their versions).
package pack
