// SPDX-License-Identifier: Apache-2.0

// Command structure checks that the code stays easy to find and to read: files of at most 300 lines, functions of at
// most 60, and imports that only point down the layers of the workspace-operator. It reads the names of Go files from
// its standard input. Test files and generated files are not checked.
package main
