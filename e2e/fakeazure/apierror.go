// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// apiError is an error in ARM's form.
type apiError struct {
	HTTP    int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
	// Subcode is used by AKS, whose errors have no envelope.
	Subcode string `json:"subcode,omitempty"`
	// RetryAfter is in seconds.
	RetryAfter int `json:"-"`
	// Errors of AKS have no envelope.
	AKS bool `json:"-"`
}

func (e *apiError) Error() string { return e.Code + ": " + e.Message }

func (e *apiError) write(w http.ResponseWriter) {
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	if e.Code == "" {
		w.WriteHeader(e.HTTP) // no body
		return
	}
	var body any = map[string]any{"error": e}
	if e.AKS {
		body = map[string]any{"code": e.Code, "details": nil, "message": e.Message, "subcode": e.Subcode}
	}
	respond(w, e.HTTP, body)
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body) // the client may be gone
	}
}
