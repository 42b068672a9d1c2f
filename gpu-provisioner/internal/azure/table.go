// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	karpenterv1alpha5 "kaito.sh/shared/api/karpenter/v1alpha5"
)

// row is one row of the table of errors: a code and, if it is ambiguous, a text give a reason and a class.
type row struct {
	name   string
	codes  []string
	status []int // empty: any, including a failed operation, which has no status
	text   *regexp.Regexp
	reason string
	class  Class
	scope  Scope
	// remember and remedy get the text's submatches.
	remember func(q quota) time.Duration
	remedy   func(q quota) string
}

// quota is the figures of a quota message; -1 if the message has none.
type quota struct {
	family, location              string
	limit, usage, needed, minimum int64
}

// The codes and texts are from karpenter-provider-azure's catalogue, Microsoft's documentation of AKS and Compute
// errors, and public issues. The order matters: quota, conflict and invalid parameter share codes, and only the text
// distinguishes them.
var table = []row{
	{
		name:   "regional quota",
		codes:  []string{"QuotaExceeded", "OperationNotAllowed", "ErrCode_InsufficientVCPUQuota"},
		text:   regexp.MustCompile(`(?i)total regional cores quota|insufficient regional vcpu quota`),
		reason: karpenterv1alpha5.ReasonRegionalQuotaExceeded, class: ClassCapacity, scope: ScopeRegion,
		remember: minutes(10), remedy: regionalRemedy,
	},
	{
		name:   "spot quota",
		codes:  []string{"QuotaExceeded", "OperationNotAllowed", "ErrCode_InsufficientVCPUQuota"},
		text:   regexp.MustCompile(`(?i)LowPriorityCores quota|low.?priority cores`),
		reason: karpenterv1alpha5.ReasonSpotQuotaExceeded, class: ClassCapacity, scope: ScopeSpot,
		remember: minutes(10), remedy: spotRemedy,
	},
	{
		name:   "family quota",
		codes:  []string{"QuotaExceeded", "OperationNotAllowed", "ErrCode_InsufficientVCPUQuota"},
		text:   regexp.MustCompile(`(?i)cores quota|vcpu quota|exceeding (the )?quota|left regional vcpu`),
		reason: karpenterv1alpha5.ReasonQuotaExceeded, class: ClassCapacity, scope: ScopeFamily,
		remember: func(q quota) time.Duration {
			if q.limit == 0 {
				return time.Hour // none was granted yet; that takes a support request
			}
			return 10 * time.Minute
		},
		remedy: familyRemedy,
	},
	{
		name:   "size not available in location",
		codes:  []string{"SkuNotAvailable"},
		reason: karpenterv1alpha5.ReasonSKUNotAvailable, class: ClassCapacity, scope: ScopeSize,
		remember: nil, // depends on the capacity type, see Remember
		remedy:   say("choose another size or region"),
	},
	{
		name:   "size not supported for subscription",
		codes:  []string{"VMSizeNotSupported", "BadRequest"},
		status: []int{http.StatusBadRequest},
		text: regexp.MustCompile(
			`(?i)virtual machine size:? '?[\w-]+'? is not supported for subscription|vm size .* is not allowed in your subscription`,
		),
		reason:   karpenterv1alpha5.ReasonSKUNotAvailable,
		class:    ClassCapacity,
		scope:    ScopeSize,
		remember: func(quota) time.Duration { return 23 * time.Hour },
		remedy:   say("choose another size or region"),
	},
	{
		name:   "zonal allocation",
		codes:  []string{"ZonalAllocationFailed", "OverconstrainedZonalAllocationRequest"},
		reason: karpenterv1alpha5.ReasonZonalCapacityUnavailable, class: ClassCapacity, scope: ScopeOffering,
		remember: minutes(60), remedy: say("none: another zone or regional placement is tried"),
	},
	{
		name:   "allocation",
		codes:  []string{"AllocationFailed", "OverconstrainedAllocationRequest"},
		reason: karpenterv1alpha5.ReasonCapacityUnavailable, class: ClassCapacity, scope: ScopeOffering,
		remember: minutes(60), remedy: say("allow another size or region, or use a capacity reservation"),
	},
	{
		name:   "another operation in progress",
		codes:  []string{"OperationNotAllowed", "AnotherOperationInProgress", "Conflict"},
		status: []int{http.StatusConflict, 0},
		text:   regexp.MustCompile(`(?i)in progress|aks-pending-operation|preempted by`),
		reason: karpenterv1alpha5.ReasonClusterBusy, class: ClassConflict, remedy: say("none: retried"),
	},
	{
		name:   "etag",
		codes:  []string{"OriginalEtagNotExpect", "PreconditionFailed", "EtagMismatch"},
		status: []int{http.StatusConflict, http.StatusPreconditionFailed},
		reason: karpenterv1alpha5.ReasonClusterBusy, class: ClassConflict, remedy: say("none: retried after a fresh read"),
	},
	{
		name:   "throttled",
		status: []int{http.StatusTooManyRequests},
		reason: karpenterv1alpha5.ReasonThrottled, class: ClassThrottle, remedy: say("none: retried"),
	},
	{
		name:   "throttled inside an operation",
		codes:  []string{"Throttled", "TooManyRequests"},
		reason: karpenterv1alpha5.ReasonThrottled, class: ClassThrottle, remedy: say("none: retried"),
	},
	{
		name:   "cluster or group not found",
		codes:  []string{"ResourceGroupNotFound", "ParentResourceNotFound", "SubscriptionNotFound"},
		status: []int{http.StatusNotFound},
		reason: karpenterv1alpha5.ReasonClusterNotFound, class: ClassConfig,
		remedy: say("check clusterName, resourceGroup and subscriptionID in the operator's config file"),
	},
	{
		name:   "cluster itself not found",
		codes:  []string{"NotFound", "ResourceNotFound"},
		status: []int{http.StatusNotFound},
		text: regexp.MustCompile(
			`(?i)managedClusters/[^/'"]+['"]? (under resource group|was not found)|managed cluster\b.*not found`,
		),
		reason: karpenterv1alpha5.ReasonClusterNotFound,
		class:  ClassConfig,
		remedy: say("check clusterName, resourceGroup and subscriptionID in the operator's config file"),
	},
	{
		name:   "agent pool not found",
		codes:  []string{"NotFound", "ResourceNotFound", "AgentPoolNotFound"},
		status: []int{http.StatusNotFound},
		reason: ReasonNotFound, class: ClassGone, remedy: say(""),
	},
	{
		name:   "not authorized",
		codes:  []string{"AuthorizationFailed", "LinkedAuthorizationFailed"},
		status: []int{http.StatusForbidden},
		reason: karpenterv1alpha5.ReasonIdentityUnauthorized,
		class:  ClassConfig,
		remedy: say(
			`grant the provisioner's identity its role: az role assignment create --assignee <client id> --role "Azure Kubernetes Service Contributor Role" --scope <the cluster's resource id>`,
		),
	},
	{
		name:   "not authenticated",
		status: []int{http.StatusUnauthorized},
		reason: karpenterv1alpha5.ReasonIdentityUnauthorized,
		class:  ClassConfig,
		remedy: say(
			"check the workload identity federation: issuer, subject system:serviceaccount:<namespace>:<name> and audience api://AzureADTokenExchange",
		),
	},
	{
		name: "invalid request",
		codes: []string{
			"InvalidParameter",
			"PropertyChangeNotAllowed",
			"BadRequest",
			"InvalidTemplate",
			"InvalidRequestFormat",
		},
		status: []int{http.StatusBadRequest},
		reason: karpenterv1alpha5.ReasonInvalidRequest,
		class:  ClassTerminal,
		remedy: say("correct the field that the message names, in the KaitoNodeClass or the claim"),
	},
}

// match returns whether the row applies to f. A failed operation has no HTTP status.
func (r *row) match(f facts) (quota, bool) {
	if len(r.codes) > 0 && !slices.ContainsFunc(r.codes, func(c string) bool { return strings.EqualFold(c, f.code) }) {
		return quota{}, false
	}
	if len(r.status) > 0 && !slices.Contains(r.status, f.status) {
		return quota{}, false
	}
	if r.text != nil && !r.text.MatchString(f.message) {
		return quota{}, false
	}
	return parseQuota(f.message), true
}

func (r *row) build(f facts, q quota) *Error {
	e := &Error{
		Reason: r.reason, Class: r.class, Scope: r.scope, Code: f.code, Status: f.status, Message: f.message,
		Remedy: r.remedy(q), RetryAfter: f.retryAfter,
	}
	if e.Message == "" {
		e.Message = firstOf(http.StatusText(f.status), r.name)
	}
	if r.remember != nil {
		e.RememberFor = r.remember(q)
	}
	if e.Class == ClassThrottle && e.RetryAfter == 0 {
		e.RetryAfter = 30 * time.Second
		if m := secondsText.FindStringSubmatch(f.message); m != nil {
			if s, err := strconv.Atoi(m[1]); err == nil && s > 0 { // ignore "in 0 seconds"
				e.RetryAfter = time.Duration(s) * time.Second
			}
		}
	}
	return e
}

// Remember returns the time for which an offering of that capacity type is marked as unavailable.
func (e *Error) Remember(spot bool) time.Duration {
	if e.Class != ClassCapacity {
		return 0
	}
	if e.RememberFor == 0 && e.Reason == karpenterv1alpha5.ReasonSKUNotAvailable {
		if spot {
			return time.Hour // spot capacity changes within hours
		}
		return 23 * time.Hour // the offered sizes change daily
	}
	return e.RememberFor
}

var (
	familyText   = regexp.MustCompile(`(?i)exceeding approved (.+?) cores quota`)
	locationText = regexp.MustCompile(`(?i)location: ([\w-]+)`)
	limitText    = regexp.MustCompile(`(?i)current limit: (\d+)`)
	usageText    = regexp.MustCompile(`(?i)current usage: (\d+)`)
	neededText   = regexp.MustCompile(`(?i)additional required: (\d+)`)
	minimumText  = regexp.MustCompile(`(?i)\(minimum\) new limit required: (\d+)`)
)

func parseQuota(message string) quota {
	text := func(re *regexp.Regexp) string {
		if m := re.FindStringSubmatch(message); m != nil {
			return m[1]
		}
		return ""
	}
	number := func(re *regexp.Regexp) int64 {
		n, err := strconv.ParseInt(text(re), 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	return quota{
		family: text(familyText), location: text(locationText),
		limit: number(limitText), usage: number(usageText), needed: number(neededText), minimum: number(minimumText),
	}
}

func minutes(n int) func(quota) time.Duration {
	return func(quota) time.Duration { return time.Duration(n) * time.Minute }
}

func say(s string) func(quota) string { return func(quota) string { return s } }

func familyRemedy(q quota) string {
	return QuotaRemedy(firstOf(q.family, "the size's family"), q.location, q.minimum)
}
func regionalRemedy(q quota) string {
	return QuotaRemedy("cores", q.location, q.minimum)
}
func spotRemedy(q quota) string {
	return QuotaRemedy("lowPriorityCores", q.location, q.minimum) + "; or allow on-demand"
}

// QuotaRemedy returns the command that requests more vCPUs of a family in a region (az extension quota).
func QuotaRemedy(family, location string, vcpus int64) string {
	value := "<vCPUs>"
	if vcpus >= 0 {
		value = strconv.FormatInt(vcpus, 10)
	}
	return fmt.Sprintf(
		"request %s vCPUs for %s in %s: az quota update --resource-name %s --scope /subscriptions/<subscription>/providers/Microsoft.Compute/locations/%s --limit-object value=%s --resource-type dedicated",
		value, family, firstOf(location, "<region>"), strings.ReplaceAll(family, " ", ""), firstOf(location, "<region>"),
		value,
	)
}
