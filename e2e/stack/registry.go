package stack

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
)

// ociRegistry is a real OCI registry over TLS on loopback, in this process.
type ociRegistry struct {
	server *httptest.Server
	caFile string
}

// startRegistry writes the certificate that clients must trust to caFile.
func startRegistry(caFile string) (*ociRegistry, error) {
	quiet := log.New(io.Discard, "", 0)
	server := httptest.NewTLSServer(registry.New(registry.Logger(quiet)))
	server.Config.ErrorLog = quiet
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(caFile, certificate, 0o600); err != nil {
		server.Close()
		return nil, fmt.Errorf("writing the registry's certificate: %w", err)
	}
	return &ociRegistry{server: server, caFile: caFile}, nil
}

// host is host:port, the first part of an image's reference.
func (r *ociRegistry) host() string { return strings.TrimPrefix(r.server.URL, "https://") }

func (r *ociRegistry) stop() { r.server.Close() }
