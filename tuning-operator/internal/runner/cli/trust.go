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

// publicAuthorities is where our images, Debian and Ubuntu have the public ones.
const publicAuthorities = "/etc/ssl/certs/ca-certificates.crt"

type trustFlags struct {
	common
	authorities, public, out string
}

func trustCommand(env Env, code *int) *cobra.Command {
	var f trustFlags
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Write the public certificate authorities and one's own into one file",
		Long: `Trust writes one file (PEM) of the public certificate authorities and of those in a folder. Programs that can be told of
one file only (SSL_CERT_FILE of OpenSSL and Python's httpx, REQUESTS_CA_BUNDLE of Python's requests) then trust both.
A folder that is not there adds nothing; a file in it that is no certificate is an error that names it.`,
		Example: `  runner trust --authorities ./our-authorities --out ./authorities.pem`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			*code = run(cmd.Context(), env, f.common, message.StepTrust, tuningv1alpha1.ReasonConfigInvalid, f.work)
			return nil
		},
	}
	f.registerLog(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.authorities, "authorities", "", "folder of files (PEM) with one's own authorities (required)")
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
		// A mounted ConfigMap has its versions in folders whose names begin with two dots, and its files as links into them.
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
	// Renamed when it is whole: whoever finds it finds all authorities.
	part := f.out + ".part"
	if err := os.WriteFile(
		part, all.Bytes(), 0o644,
	); err != nil { //nolint:gosec // certificates are public, and another user's process reads them
		return message.Result{}, fmt.Errorf("writing the authorities: %w", err)
	}
	if err := os.Rename(part, f.out); err != nil {
		return message.Result{}, fmt.Errorf("writing the authorities: %w", err)
	}
	return message.Result{}, nil
}

// certificates reads a file of certificates, and leaves out what else is in it: comments, and keys that do not belong
// there.
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
				tuningv1alpha1.ReasonConfigInvalid, "%s: a certificate in it cannot be read: %w", path, err,
			)
		}
		_ = pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}) // a buffer takes everything
	}
	if out.Len() == 0 {
		return nil, fault.Permanent(
			tuningv1alpha1.ReasonConfigInvalid, "%s: no certificate in it; it must be PEM, with lines BEGIN CERTIFICATE", path,
		)
	}
	return out.Bytes(), nil
}
