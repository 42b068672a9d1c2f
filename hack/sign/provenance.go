// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"runtime"
	"strings"

	provenancev1 "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// buildType names what `make images` does with the parameters; docs/verify-release.md describes it.
const buildType = "https://kaito.sh/build/images/v1"

// source is the commit that the images are made of.
type source struct{ repository, commit string }

// readSource asks git. A work tree with changes has no commit that names what was built: the error says so unless dirty
// is allowed.
func readSource(ctx context.Context, root string, allowDirty bool) (source, error) {
	commit, err := git(ctx, root, "rev-parse", "HEAD")
	if err != nil {
		return source{}, err
	}
	changes, err := git(ctx, root, "status", "--porcelain")
	if err != nil {
		return source{}, err
	}
	if changes != "" && !allowDirty {
		return source{}, fmt.Errorf(
			"the work tree at %s has changes that no commit holds, so that the provenance would name the wrong sources: commit them, or allow it by --allow-dirty\n%s",
			root, changes,
		)
	}
	// A clone without a remote is fine: the commit alone names the sources.
	remote, err := git(ctx, root, "remote", "get-url", "origin")
	if err != nil {
		remote = ""
	}
	return source{repository: withoutSecrets(remote), commit: commit}, nil
}

func git(ctx context.Context, root string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s in %s: %w", strings.Join(args, " "), root, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// withoutSecrets drops the user, the password and the query of a repository's address.
func withoutSecrets(address string) string {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" {
		return "" // git@host:path or a folder: no address for the world
	}
	parsed.User, parsed.RawQuery, parsed.Fragment = nil, "", ""
	return parsed.String()
}

// provenance returns SLSA's predicate (https://slsa.dev/spec/v1.0/provenance). It names no time: the same sources have
// the same one.
func provenance(f flags, s source, image string) (*structpb.Struct, error) {
	parameters := map[string]any{"image": image, "tag": f.tag}
	if f.platforms != "" {
		parameters["platforms"] = f.platforms
	}
	if s.repository != "" {
		parameters["repository"] = s.repository
	}
	external, err := structpb.NewStruct(parameters)
	if err != nil {
		return nil, fmt.Errorf("writing the provenance: %w", err)
	}
	sources := &intoto.ResourceDescriptor{Name: "sources", Digest: map[string]string{"gitCommit": s.commit}}
	if s.repository != "" {
		sources.Uri = "git+" + s.repository + "@" + s.commit
	}
	release := strings.TrimPrefix(runtime.Version(), "go")
	predicate := &provenancev1.Provenance{
		BuildDefinition: &provenancev1.BuildDefinition{
			BuildType: buildType, ExternalParameters: external,
			ResolvedDependencies: []*intoto.ResourceDescriptor{sources, {Name: "go", Uri: "pkg:golang/stdlib@" + release}},
		},
		RunDetails: &provenancev1.RunDetails{Builder: &provenancev1.Builder{Id: f.builder}},
	}
	text, err := protojson.Marshal(predicate)
	if err != nil {
		return nil, fmt.Errorf("writing the provenance: %w", err)
	}
	out := &structpb.Struct{}
	return out, protojson.Unmarshal(text, out)
}
