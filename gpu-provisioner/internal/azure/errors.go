// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
	"kaito.sh/shared/excerpt"
	"kaito.sh/shared/redact"
)

// Class says what can be done about an error.
type Class string

const (
	// ClassCapacity: this size, zone or capacity type is not available now; another can be. The offering is marked as
	// unavailable.
	ClassCapacity Class = "capacity"
	// ClassConflict: another client is writing; read again and retry.
	ClassConflict Class = "conflict"
	// ClassThrottle: too many calls; retry after RetryAfter.
	ClassThrottle Class = "throttle"
	// ClassGone: the resource does not exist.
	ClassGone Class = "gone"
	// ClassConfig: the operator's configuration or rights are wrong. A user must act; retried slowly.
	ClassConfig Class = "config"
	// ClassTerminal: Azure will never accept this request.
	ClassTerminal Class = "terminal"
	// ClassTransient: Azure or the network failed. Whether a write took effect is unknown until ARM is read again.
	ClassTransient Class = "transient"
)

// ReasonNotFound is the reason of an error of class gone. The operator handles it: no condition has it.
const ReasonNotFound = "NotFound"

// Scope is the set of offerings that an error of class capacity is about.
type Scope string

const (
	ScopeOffering Scope = "offering" // size × zone × capacity type
	ScopeFamily   Scope = "family"   // every size of the quota family, on-demand
	ScopeRegion   Scope = "region"   // every size, on-demand
	ScopeSpot     Scope = "spot"     // every size, spot
	ScopeSize     Scope = "size"     // the size in every zone, that capacity type
)

// Error is a classified error of Azure. Its message is one line without request IDs, for use in a condition.
type Error struct {
	Reason  string
	Class   Class
	Scope   Scope
	Code    string // Azure's error code
	Status  int    // HTTP status; 0 for a failed operation or a broken connection
	Message string
	Remedy  string
	// RememberFor is the time for which the offering is marked as unavailable. Zero for all classes but capacity.
	RememberFor time.Duration
	// RetryAfter is the delay that Azure requests, or zero.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	s := e.Message
	if e.Code != "" && !strings.Contains(s, e.Code) {
		s = e.Code + ": " + s
	}
	return s
}

// Explain returns the message and the remedy.
func (e *Error) Explain() string {
	if e.Remedy == "" || strings.HasPrefix(e.Remedy, "none") {
		return e.Error()
	}
	return strings.TrimSuffix(e.Error(), ".") + ". To fix: " + e.Remedy
}

// AsError returns the classified error in err's chain, or nil.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// Is returns whether err is a classified error of that class.
func Is(err error, class Class) bool {
	e := AsError(err)
	return e != nil && e.Class == class
}

// facts is the information in a failed call.
type facts struct {
	code       string
	status     int
	message    string
	retryAfter time.Duration
}

// Classify converts an error of the SDK according to the table. It returns nil for nil, and an *Error unchanged.
func Classify(err error) *Error {
	if err == nil {
		return nil
	}
	if e := AsError(err); e != nil {
		return e
	}
	return classify(read(err))
}

// read extracts the facts from an error of the SDK.
func read(err error) facts {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		f := facts{code: response.ErrorCode, status: response.StatusCode}
		if response.RawResponse != nil {
			f.retryAfter = retryAfter(response.RawResponse.Header)
			code, message := bodyError(response.RawResponse)
			f.message = message
			if f.code == "" || code != "" {
				f.code = firstOf(code, f.code)
			}
		}
		if f.status < 300 {
			f.status = 0 // the read of the status succeeded; the operation did not
		}
		return f
	}
	var authentication *azidentity.AuthenticationFailedError
	if errors.As(err, &authentication) {
		f := facts{
			code:    "AuthenticationFailed",
			status:  http.StatusUnauthorized,
			message: authenticationMessage(authentication),
		}
		if authentication.RawResponse != nil && authentication.RawResponse.StatusCode >= 500 {
			f.status = authentication.RawResponse.StatusCode
		}
		return f
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return facts{message: "the request was cut off: " + err.Error()}
	}
	return facts{message: oneLine(err.Error())}
}

// classify returns the error of the first row that matches.
func classify(f facts) *Error {
	for i := range table {
		row := &table[i]
		match, ok := row.match(f)
		if !ok {
			continue
		}
		return row.build(f, match)
	}
	// Without a row, it is a failure of Azure or the network, unless the status is another 4xx.
	e := &Error{
		Reason:     karpenterv1alpha5.ReasonAzureError,
		Class:      ClassTransient,
		Code:       f.code,
		Status:     f.status,
		Message:    firstOf(f.message, http.StatusText(f.status), "no message"),
		RetryAfter: f.retryAfter,
		Remedy:     "none: retried",
	}
	return e
}

type azureBody struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Details []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"details"`
	} `json:"error"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// bodyError reads the code and message of an error response or of a failed operation's status. The SDK has buffered the
// body.
func bodyError(r *http.Response) (code, message string) {
	if r.Body == nil {
		return "", ""
	}
	raw, err := runtime.Payload(r)
	if err != nil {
		return "", ""
	}
	var body azureBody
	if err := json.Unmarshal(raw, &body); err != nil {
		return "", ""
	}
	code, message = firstOf(body.Error.Code, body.Code), firstOf(body.Error.Message, body.Message)
	// AKS sometimes wraps errors of Compute; the table contains the inner ones.
	if generic[code] && len(body.Error.Details) > 0 {
		inner := body.Error.Details[0]
		code, message = firstOf(inner.Code, code), firstOf(inner.Message, message)
	}
	return code, oneLine(message)
}

// generic codes only say that an inner operation failed.
var generic = map[string]bool{
	"DeploymentFailed":             true,
	"VMSSAgentPoolReconciler":      true,
	"CreateVMSSAgentPoolFailed":    true,
	"ReconcileVMSSAgentPoolFailed": true,
}

func authenticationMessage(err *azidentity.AuthenticationFailedError) string {
	// The whole text contains the response with its correlation IDs. The line with the AADSTS code is useful.
	if m := aadsts.FindString(err.Error()); m != "" {
		return oneLine(m)
	}
	// There was no response: the token file could not be read, or the host did not answer.
	if first, _, _ := strings.Cut(err.Error(), "\n"); err.RawResponse == nil {
		return "Microsoft Entra did not give a token: " + oneLine(first)
	}
	return "Microsoft Entra did not give a token"
}

var (
	aadsts  = regexp.MustCompile(`AADSTS\d+: [^.\r\n"]+`)
	tracing = regexp.MustCompile(
		`(?i)\s*(correlation ?id|trace ?id|timestamp|activity ?id|request ?id)\s*[:=]\s*['"]?[-\w:.]+['"]?\.?`,
	)
	whitespace  = regexp.MustCompile(`\s+`)
	secondsText = regexp.MustCompile(`(?i)retry again in (\d+) seconds?`)
)

// oneLine removes what changes between two identical failures, so that a condition is not rewritten.
func oneLine(s string) string {
	const limit = 700
	return excerpt.Head(
		redact.Text(strings.TrimSpace(whitespace.ReplaceAllString(tracing.ReplaceAllString(s, ""), " "))), limit,
	)
}

func retryAfter(h http.Header) time.Duration {
	for _, name := range []string{"Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		if ms, err := strconv.Atoi(h.Get(name)); err == nil && ms > 0 {
			return time.Duration(ms) * time.Millisecond
		}
	}
	v := h.Get("Retry-After")
	if s, err := strconv.Atoi(v); err == nil && s > 0 {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		if sent, err := http.ParseTime(h.Get("Date")); err == nil && at.After(sent) {
			return at.Sub(sent)
		}
	}
	return 0
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
