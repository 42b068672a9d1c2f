// SPDX-License-Identifier: Apache-2.0

// Package configfile reads the YAML files that users give in ConfigMaps. Its errors name the file, the key, the value
// and what is allowed.
package configfile
