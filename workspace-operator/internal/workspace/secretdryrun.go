// SPDX-License-Identifier: Apache-2.0

package workspace

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A create with dryRun=All shows whether a Secret exists, so the operator needs no right to read Secrets. An admission
// policy that is installed with the operator refuses its other creates. See docs/adr/0004-secret-existence.md. The
// policy identifies the operator by the verb dryrun, which the same rule grants: the policy then holds under any
// service account.
// +kubebuilder:rbac:groups="",resources=secrets,verbs=create;dryrun

// Secrets tells whether a Secret exists. known is false where that cannot be found out.
type Secrets interface {
	Exists(ctx context.Context, key client.ObjectKey) (exists, known bool, err error)
}

// DryRunSecrets finds out whether a Secret exists without the right to read any: a create that is only a dry run is
// refused with AlreadyExists when it does.
type DryRunSecrets struct {
	// Client writes to the API server.
	Client client.Writer
}

// ErrUnguarded is returned when nothing keeps the operator from creating Secrets.
var ErrUnguarded = errors.New(
	"the operator may create Secrets, which the ValidatingAdmissionPolicy secret-existence is to refuse, and that policy does not hold for it: " +
		"apply the operator's manifests again (config/rbac/secret_existence_policy.yaml), or remove the rule for secrets from its role; the Workspace continues then",
)

const (
	// labelProbe marks a dry run that the policy refuses, so that the operator sees whether it holds.
	labelProbe = "kaito.sh/secret-existence-probe"
	// probeRefused is what the policy says then. It is in secret_existence_policy.yaml, too.
	probeRefused = "the secret-existence policy holds"
)

// guarded returns ErrUnguarded when the admission policy does not refuse what it is to refuse. Nothing is stored: the
// question is a dry run as well.
func (d DryRunSecrets) guarded(ctx context.Context, namespace string) error {
	err := d.Client.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, GenerateName: "secret-existence-probe-", Labels: map[string]string{labelProbe: "true"},
	}}, client.DryRunAll)
	var refused apierrors.APIStatus
	switch {
	case err == nil:
		return ErrUnguarded
	case strings.Contains(err.Error(), probeRefused):
		return nil
	case errors.As(err, &refused) && refused.Status().Code < http.StatusInternalServerError:
		return nil // there is no right to guard, or another policy refuses first, as it will refuse the question
	}
	return fmt.Errorf("asking whether the policy for Secrets holds in %s: %w", namespace, err)
}

// Exists asks. What an admission policy, a quota or a missing right answers tells nothing about the Secret: it is not
// known then. The error is ErrUnguarded when the right to ask is a right to create.
func (d DryRunSecrets) Exists(ctx context.Context, key client.ObjectKey) (exists, known bool, err error) {
	if err := d.guarded(ctx, key.Namespace); err != nil {
		return false, false, err
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	err = d.Client.Create(ctx, secret, client.DryRunAll)
	switch {
	case err == nil:
		return false, true, nil
	case apierrors.IsAlreadyExists(err):
		return true, true, nil
	case apierrors.IsInvalid(err):
		// A name that no Secret can have.
		return false, true, nil
	case apierrors.IsForbidden(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err):
		return false, false, nil
	}
	return false, false, fmt.Errorf("looking for Secret %s: %w", key, err)
}
