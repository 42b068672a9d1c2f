// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"kaito.sh/shared/excerpt"
)

// Error types of OpenAI's API.
const (
	typeInvalidRequest = "invalid_request_error"
	typeRateLimit      = "rate_limit_error"
	typeServer         = "server_error"
)

// apiError is an error response in the form of OpenAI's API. Its message can quote the request, so it is never logged.
type apiError struct {
	status  int
	kind    string
	code    string
	param   string
	message string
	// retryAfter is sent as Retry-After, rounded up to whole seconds, unless it is zero.
	retryAfter time.Duration
	// headerName and headerValue are a response header that the status requires, such as Allow.
	headerName, headerValue string
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.status, e.code, e.message)
}

type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code"`
}

// body of the response.
func (e *apiError) body() errorBody {
	detail := errorDetail{Message: e.message, Type: e.kind, Code: e.code}
	if e.param != "" {
		detail.Param = &e.param
	}
	return errorBody{Error: detail}
}

// write sends e. It ignores write errors, which mean that the client disconnected.
func (e *apiError) write(w http.ResponseWriter) {
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.retryAfter.Seconds()))))
	}
	if e.headerName != "" {
		w.Header().Set(e.headerName, e.headerValue)
	}
	writeJSON(w, e.status, e.body())
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // the values written here are plain structs of strings, which always marshal
		panic(fmt.Sprintf("marshalling %T: %v", v, err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a failed write means that the client disconnected
}

func invalidRequest(code, param, format string, args ...any) *apiError {
	return &apiError{
		status:  http.StatusBadRequest,
		kind:    typeInvalidRequest,
		code:    code,
		param:   param,
		message: fmt.Sprintf(format, args...),
	}
}

func bodyTooLarge(rt *route, limit int64) *apiError {
	message := fmt.Sprintf(
		"The request's body is larger than the limit of %d bytes. Send a smaller one, or ask an administrator to increase --max-body-bytes.",
		limit,
	)
	if rt.chat && limit == maxChatBytes {
		message = fmt.Sprintf(
			"The request's body is larger than %d bytes, the limit of %s. Send a smaller one, or call /v1/chat/completions, which has a higher limit.",
			limit, rt.pattern,
		)
	}
	return &apiError{
		status:  http.StatusRequestEntityTooLarge,
		kind:    typeInvalidRequest,
		code:    "request_too_large",
		message: message,
	}
}

func unknownPath(path string) *apiError {
	return &apiError{
		status: http.StatusNotFound,
		kind:   typeInvalidRequest,
		code:   "unknown_url",
		message: fmt.Sprintf(
			"Unknown path %s. Available are POST /chat and OpenAI's inference calls under /v1, such as /v1/chat/completions.",
			quote(path),
		),
	}
}

func methodNotAllowed(method, path, allowed string) *apiError {
	return &apiError{
		status: http.StatusMethodNotAllowed, kind: typeInvalidRequest, code: "method_not_allowed",
		message:    fmt.Sprintf("Method %s is not allowed for %s. Use %s.", quote(method), path, allowed),
		headerName: "Allow", headerValue: allowed,
	}
}

func unauthorized() *apiError {
	return &apiError{
		status:      http.StatusUnauthorized,
		kind:        typeInvalidRequest,
		code:        "invalid_api_key",
		message:     "This model requires a valid API key. Send it as \"Authorization: Bearer KEY\" or \"X-Api-Key: KEY\".",
		headerName:  "WWW-Authenticate",
		headerValue: "Bearer",
	}
}

// quote quotes a part of the request, truncated to a bounded length.
func quote(s string) string {
	const most = 80
	return strconv.Quote(excerpt.Head(s, most))
}
