// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// assetsVariable is the variable that envtest, kubebuilder's scaffolding and the Makefile use.
const assetsVariable = "KUBEBUILDER_ASSETS"

// MissingBinariesError says which binaries of a control plane are missing, and how to install them.
type MissingBinariesError struct {
	// Names are the missing binaries.
	Names []string
	// Folders are the searched folders.
	Folders []string
}

func (e *MissingBinariesError) Error() string {
	return fmt.Sprintf("no %s in %s: run `make controlplane`, or name a folder that holds them by %s",
		strings.Join(e.Names, ", "), strings.Join(e.Folders, ", "), assetsVariable)
}

// binaries maps the name of a component to its file.
type binaries map[string]string

// Binary returns the file of a binary of a control plane, for example "kubectl". It searches KUBEBUILDER_ASSETS and
// then bin/k8s of the repository of the working folder.
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

// assetFolders returns the folders with binaries in the order of the search. The archive of envtest lacks the scheduler
// and the controller manager, which then come from bin/k8s.
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

// repositoryRoot returns the closest folder with go.work, from the working folder upwards. The working folder of a test
// is that of its package.
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
