// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	intoto "github.com/in-toto/attestation/go/v1"
	cosignbundle "github.com/sigstore/cosign/v3/pkg/cosign/bundle"
	ociremote "github.com/sigstore/cosign/v3/pkg/oci/remote"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// The predicates that `cosign verify` and `cosign verify-attestation --type` look for: a signature, spdxjson and
// slsaprovenance1.
const (
	typeSignature  = "https://sigstore.dev/cosign/sign/v1"
	typeBill       = "https://spdx.dev/Document"
	typeProvenance = "https://slsa.dev/provenance/v1"
)

// attest signs a statement about the image, and pushes it beside the image as a bundle that refers to it.
func (s *signer) attest(
	ctx context.Context, image name.Digest, predicateType string, predicate *structpb.Struct, insecure bool,
) error {
	algorithm, hex, _ := strings.Cut(image.DigestStr(), ":")
	statement, err := protojson.Marshal(&intoto.Statement{
		Type:          intoto.StatementTypeUri,
		Subject:       []*intoto.ResourceDescriptor{{Digest: map[string]string{algorithm: hex}}},
		PredicateType: predicateType, Predicate: predicate,
	})
	if err != nil {
		return fmt.Errorf("writing the statement: %w", err)
	}
	content := &sign.DSSEData{Data: statement, PayloadType: "application/vnd.in-toto+json"}
	bundle, err := cosignbundle.SignData(ctx, content, s.keypair, s.token, nil, nil, s.config, nil, s.options)
	if err != nil {
		return fmt.Errorf("signing %s: %w", predicateType, err)
	}
	options := []ociremote.Option{
		ociremote.WithRemoteOptions(remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)),
	}
	if insecure {
		options = append(options, ociremote.WithNameOptions(name.Insecure))
	}
	if err := ociremote.WriteAttestationNewBundleFormat(image, bundle, predicateType, options...); err != nil {
		return fmt.Errorf("pushing %s for %s: %w", predicateType, image, err)
	}
	return nil
}
