// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// subject is an image to sign.
type subject struct {
	image      name.Digest
	bill       *structpb.Struct
	provenance *structpb.Struct // nil: how it was built is not known here
}

// release signs all images. All files are read before the first signature, so that a missing one leaves nothing half
// done.
func release(ctx context.Context, f flags, names []string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, f.access.timeout)
	defer cancel()
	subjects, err := read(ctx, f, names)
	if err != nil {
		return err
	}
	s, err := f.access.signer(ctx)
	if err != nil {
		return err
	}
	for _, one := range subjects {
		if err := s.sign(ctx, one, f.plainHTTP); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(out, "signed", one.image)
	}
	return nil
}

// sign attaches the statements, the signature last: an image that has it has the others, too.
func (s *signer) sign(ctx context.Context, one subject, plainHTTP bool) error {
	if err := s.attest(ctx, one.image, typeBill, one.bill, plainHTTP); err != nil {
		return err
	}
	if one.provenance != nil {
		if err := s.attest(ctx, one.image, typeProvenance, one.provenance, plainHTTP); err != nil {
			return err
		}
	}
	return s.attest(ctx, one.image, typeSignature, &structpb.Struct{}, plainHTTP)
}

func read(ctx context.Context, f flags, names []string) ([]subject, error) {
	if f.external != "" {
		return readExternal(ctx, f)
	}
	sources, err := readSource(ctx, f.root, f.allowDirty)
	if err != nil {
		return nil, err
	}
	subjects := make([]subject, 0, len(names))
	for _, image := range names {
		file := filepath.Join(f.images, image+".digest")
		digest, err := os.ReadFile(file) //nolint:gosec // a file of the folder that the user names
		if err != nil {
			return nil, fmt.Errorf("%w: run `make images PUSH=%s` first", err, f.registry)
		}
		one := subject{}
		if one.image, err = name.NewDigest(
			f.registry+"/"+image+"@"+strings.TrimSpace(string(digest)),
			f.options()...); err != nil {
			return nil, fmt.Errorf("--registry is %q, and %s names the digest: %w", f.registry, file, err)
		}
		if one.bill, err = readBill(filepath.Join(f.images, image+".spdx.json")); err != nil {
			return nil, err
		}
		if one.provenance, err = provenance(f, sources, image); err != nil {
			return nil, err
		}
		subjects = append(subjects, one)
	}
	return subjects, nil
}

// readExternal asks the registry once which digest the image has: that one is signed, wherever the tag moves.
func readExternal(ctx context.Context, f flags) ([]subject, error) {
	reference, err := name.ParseReference(f.external, f.options()...)
	if err != nil {
		return nil, fmt.Errorf("--external is %q: %w", f.external, err)
	}
	head, err := remote.Head(reference, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return nil, fmt.Errorf("asking for --external %s: %w", f.external, err)
	}
	bill, err := readBill(f.bill)
	if err != nil {
		return nil, err
	}
	return []subject{{image: reference.Context().Digest(head.Digest.String()), bill: bill}}, nil
}

// readBill reads an SPDX document.
func readBill(file string) (*structpb.Struct, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the file that the user names
	if err != nil {
		return nil, fmt.Errorf("reading the SBOM: %w", err)
	}
	bill := &structpb.Struct{}
	if err := protojson.Unmarshal(text, bill); err != nil {
		return nil, fmt.Errorf("reading the SBOM %s: %w", file, err)
	}
	if version := bill.GetFields()["spdxVersion"].GetStringValue(); !strings.HasPrefix(version, "SPDX-2.") {
		return nil, fmt.Errorf("the SBOM %s has spdxVersion %q; allowed is SPDX 2 in JSON", file, version)
	}
	return bill, nil
}

func (f flags) options() []name.Option {
	if f.plainHTTP {
		return []name.Option{name.Insecure}
	}
	return nil
}
