// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// assetsVariable is the name that envtest, kubebuilder's scaffolding and our Makefile share.
const assetsVariable = "KUBEBUILDER_ASSETS"

// MissingBinariesError says that a control plane cannot be started, and what makes it possible.
type MissingBinariesError struct {
	// Names are the binaries that were found nowhere.
	Names []string
	// Folders are where they were looked for.
	Folders []string
}

func (e *MissingBinariesError) Error() string {
	return fmt.Sprintf("no %s in %s: run `make controlplane`, or name a folder that holds them by %s",
		strings.Join(e.Names, ", "), strings.Join(e.Folders, ", "), assetsVariable)
}

// binaries maps a component's name to its file.
type binaries map[string]string

// Binary returns the file of a binary that belongs to a control plane, for instance "kubectl". It is looked for in
// KUBEBUILDER_ASSETS and then in bin/k8s of the repository around the working folder.
func Binary(name string) (string, error) {
	found, err := findBinaries(name)
	if err != nil {
		return "", err
	}
	return found[name], nil
}

func findBinaries(names ...string) (binaries, error) {
	folders := assetFolders()
	found := binaries{}
	var missing []string
	for _, name := range names {
		for _, folder := range folders {
			file := filepath.Join(folder, name)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				found[name] = file
				break
			}
		}
		if found[name] == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, &MissingBinariesError{Names: missing, Folders: folders}
	}
	return found, nil
}

// assetFolders are where binaries are looked for, first match wins. envtest's archive lacks the scheduler and the
// controller manager, so a KUBEBUILDER_ASSETS of that kind is completed from bin/k8s.
func assetFolders() []string {
	var folders []string
	if named := os.Getenv(assetsVariable); named != "" {
		folders = append(folders, named)
	}
	if root, found := repositoryRoot(); found {
		folders = append(folders, filepath.Join(root, "bin", "k8s"))
	}
	return folders
}

// repositoryRoot walks up from the working folder, which for a test is its package's, to the one that has go.work.
func repositoryRoot() (string, bool) {
	folder, err := os.Getwd()
	if err != nil {
		return "", false
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.work")); err == nil {
			return folder, true
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			return "", false
		}
		folder = parent
	}
}
