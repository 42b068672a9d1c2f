// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	tuningv1alpha1 "kaito.sh/shared/api/tuning/v1alpha1"
	"kaito.sh/tuning-operator/internal/message"
	"kaito.sh/tuning-operator/internal/runner/fault"
)

// publicAuthorities is the file of public certificate authorities in our images, Debian and Ubuntu.
const publicAuthorities = "/etc/ssl/certs/ca-certificates.crt"

type trustFlags struct {
	common
	authorities, public, out string
}

func trustCommand(env Env, code *int) *cobra.Command {
	var f trustFlags
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Write public and own certificate authorities to one file",
		Long: `Trust writes the public certificate authorities and those in a folder to one file (PEM). Programs that accept only one file
(SSL_CERT_FILE of OpenSSL and Python's httpx, REQUESTS_CA_BUNDLE of Python's requests) then trust both. A missing folder
adds nothing. A file without a certificate is an error.`,
		Example: `  runner trust --authorities ./our-authorities --out ./authorities.pem`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			*code = run(cmd.Context(), env, f.common, message.StepTrust, tuningv1alpha1.ReasonConfigInvalid, f.work)
			return nil
		},
	}
	f.registerLog(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.authorities, "authorities", "", "folder of files (PEM) with own authorities (required)")
	fl.StringVar(&f.public, "public", publicAuthorities, "file (PEM) with the public authorities")
	fl.StringVar(&f.out, "out", "", "file to write (required)")
	for _, name := range []string{"authorities", "out"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that does not exist
	}
	return cmd
}

func (f *trustFlags) work(_ context.Context, s *session) (message.Result, error) {
	var all bytes.Buffer
	public, err := certificates(f.public)
	if err != nil {
		return message.Result{}, err
	}
	all.Write(public)
	entries, err := os.ReadDir(f.authorities)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return message.Result{}, fmt.Errorf("reading the folder of authorities: %w", err)
	}
	for _, entry := range entries {
		// A mounted ConfigMap has its versions in folders whose names begin with two dots. Its files are links to them.
		if strings.HasPrefix(entry.Name(), "..") {
			continue
		}
		own, err := certificates(filepath.Join(f.authorities, entry.Name()))
		if err != nil {
			return message.Result{}, err
		}
		all.Write(own)
		s.progress.Event("trusted", entry.Name(), nil)
	}
	// Renamed when complete: a reader of the file finds all authorities.
	part := f.out + ".part"
	if err := os.WriteFile(
		part, all.Bytes(), 0o644,
	); err != nil { //nolint:gosec // certificates are public, and processes of other users read them
		return message.Result{}, fmt.Errorf("writing the authorities: %w", err)
	}
	if err := os.Rename(part, f.out); err != nil {
		return message.Result{}, fmt.Errorf("writing the authorities: %w", err)
	}
	return message.Result{}, nil
}

// certificates reads the certificates of a file, without comments and keys.
func certificates(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading authorities: %w", err)
	}
	var out bytes.Buffer
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fault.Permanent(
				tuningv1alpha1.ReasonConfigInvalid, "%s: invalid certificate: %w", path, err,
			)
		}
		_ = pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}) // writes to a buffer do not fail
	}
	if out.Len() == 0 {
		return nil, fault.Permanent(
			tuningv1alpha1.ReasonConfigInvalid, "%s: no certificate found; use PEM, with lines BEGIN CERTIFICATE", path,
		)
	}
	return out.Bytes(), nil
}
