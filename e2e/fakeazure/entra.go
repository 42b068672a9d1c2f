// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// tokenLife is the lifetime of Entra's access tokens; azidentity requests a new one five minutes earlier. It is in real
// time, because the SDK uses the real clock.
const tokenLife = time.Hour

const (
	// exchangeAudience is the audience of a federated token.
	exchangeAudience = "api://AzureADTokenExchange"
	// assertionType is the type of a JWT assertion (RFC 7523).
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// entra serves the token endpoint and the discovery documents that MSAL reads.
func (s *Server) entra() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		base := strings.TrimSuffix(s.AuthorityHost(), "/") + "/" + r.PathValue("tenant")
		respond(w, http.StatusOK, map[string]any{
			"issuer":                 base + "/v2.0",
			"token_endpoint":         base + "/oauth2/v2.0/token",
			"authorization_endpoint": base + "/oauth2/v2.0/authorize",
			"jwks_uri":               base + "/discovery/v2.0/keys",
		})
	})
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", s.token)
	return mux
}

// refusal is an error of the token endpoint.
type refusal struct {
	status        int
	code, message string
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	token, err := s.issue(r)
	if err != nil {
		respond(w, err.status, map[string]any{"error": err.code, "error_description": err.message})
		return
	}
	life := int(tokenLife.Seconds())
	respond(w, http.StatusOK, map[string]any{
		"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": token,
	})
}

// issue returns a new token, or why the request is refused.
func (s *Server) issue(r *http.Request) (string, *refusal) {
	if err := s.checkTokenRequest(r); err != nil {
		return "", err
	}
	if why := s.assertion(r.Form.Get("client_assertion")); why != "" {
		return "", &refusal{http.StatusUnauthorized, "invalid_client", why}
	}
	random := make([]byte, 24)
	_, _ = rand.Read(random) // never fails
	token := hex.EncodeToString(random)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if f := s.match(Request{Verb: verbToken}, nil); f != nil && f.Error != nil {
		return "", &refusal{http.StatusUnauthorized, "invalid_client", f.Error.Message}
	}
	for old, expiry := range s.tokens {
		if expiry.Before(time.Now()) {
			delete(s.tokens, old)
		}
	}
	s.tokens[token] = time.Now().Add(tokenLife)
	return token, nil
}

// checkTokenRequest checks the form of a request for a token.
func (s *Server) checkTokenRequest(r *http.Request) *refusal {
	if err := r.ParseForm(); err != nil {
		return &refusal{http.StatusBadRequest, "invalid_request", fmt.Sprintf("AADSTS900144: %v", err)}
	}
	switch {
	case r.PathValue("tenant") != s.options.TenantID:
		return &refusal{http.StatusBadRequest, "invalid_request",
			fmt.Sprintf("AADSTS90002: Tenant '%s' not found.", r.PathValue("tenant"))}
	case r.Form.Get("client_id") != s.options.ClientID:
		return &refusal{http.StatusUnauthorized, "unauthorized_client", fmt.Sprintf(
			"AADSTS700016: Application with identifier '%s' was not found in the directory.", r.Form.Get("client_id"))}
	case r.Form.Get("grant_type") != "client_credentials":
		return &refusal{http.StatusBadRequest, "unsupported_grant_type",
			"AADSTS70003: The app requested an unsupported grant type."}
	case !strings.Contains(r.Form.Get("scope"), "/.default"):
		return &refusal{http.StatusBadRequest, "invalid_scope", fmt.Sprintf(
			"AADSTS1002012: The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier.",
			r.Form.Get("scope"))}
	case r.Form.Get("client_assertion_type") != assertionType:
		return &refusal{http.StatusUnauthorized, "invalid_client",
			"AADSTS7000216: 'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type."}
	}
	return nil
}

// assertion validates a federated token like Entra, and returns what is wrong with it. It checks the signature if the
// options have the keys of the issuing cluster.
func (s *Server) assertion(text string) string {
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384, jose.PS256})
	if err != nil {
		return "AADSTS50027: JWT token is invalid or malformed."
	}
	var claims jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return "AADSTS50027: JWT token is invalid or malformed."
	}
	if s.options.Keys != nil {
		if err := token.Claims(s.options.Keys, &claims); err != nil {
			return "AADSTS50013: Assertion failed signature validation: " + err.Error()
		}
	}
	now := time.Now()
	switch {
	case !slices.Contains(claims.Audience, exchangeAudience):
		return fmt.Sprintf(
			"AADSTS700212: No matching federated identity record found for presented assertion audience '%s'.",
			strings.Join(claims.Audience, ","),
		)
	case s.options.Subject != "" && claims.Subject != s.options.Subject:
		return fmt.Sprintf(
			"AADSTS700213: No matching federated identity record found for presented assertion subject '%s'.", claims.Subject,
		)
	case s.options.Issuer != "" && claims.Issuer != s.options.Issuer:
		return fmt.Sprintf(
			"AADSTS700211: No matching federated identity record found for presented assertion issuer '%s'.", claims.Issuer,
		)
	case claims.Expiry == nil,
		claims.Expiry.Time().Before(now),
		claims.NotBefore != nil && claims.NotBefore.Time().After(now.Add(5*time.Minute)):
		return "AADSTS700024: Client assertion is not within its valid time range."
	}
	return ""
}

// authorized checks the token of an ARM call. The caller holds the mutex.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request) bool {
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if expiry, known := s.tokens[token]; bearer && known && time.Now().Before(expiry) {
		return true
	}
	w.Header().
		Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization_uri=%q, error=\"invalid_token\", error_description=\"The access token is invalid.\"", s.AuthorityHost()+s.options.TenantID))
	(&apiError{HTTP: http.StatusUnauthorized, Code: "InvalidAuthenticationToken", Message: "The access token is invalid or has expired."}).write(
		w,
	)
	return false
}
