// SPDX-License-Identifier: Apache-2.0

package sources

import (
	"archive/tar"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Files are the paths of an image's files, sorted, read from a registry that the authority (PEM) has signed for, as
// anybody outside of the cluster would.
func Files(ctx context.Context, reference string, authority []byte, login Login) ([]string, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, errors.New("the authority is not PEM")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	parsed, err := name.ParseReference(reference)
	if err != nil {
		return nil, fmt.Errorf("reading the image's name: %w", err)
	}
	who := authn.Anonymous
	if login != (Login{}) {
		who = authn.FromConfig(authn.AuthConfig{Username: login.User, Password: login.Password})
	}
	image, err := remote.Image(parsed, remote.WithContext(ctx), remote.WithTransport(transport), remote.WithAuth(who))
	if err != nil {
		return nil, fmt.Errorf("pulling %s: %w", reference, err)
	}
	content := mutate.Extract(image)
	defer func() { _ = content.Close() }() // only read
	var names []string
	reader := tar.NewReader(content)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", reference, err)
		}
		if header.Typeflag == tar.TypeReg {
			names = append(names, header.Name)
		}
	}
}
