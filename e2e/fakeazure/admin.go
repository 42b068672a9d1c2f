// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"fmt"
	"io"
	"net/http"
)

// admin serves the admin endpoint over plain HTTP on loopback, without authentication.
func (s *Server) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(
		"GET /admin/state", func(w http.ResponseWriter, _ *http.Request) { respond(w, http.StatusOK, s.State()) },
	)
	mux.HandleFunc("DELETE /admin/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	play := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			respond(w, http.StatusRequestEntityTooLarge, map[string]string{"error": err.Error()})
			return
		}
		scenario, err := ParseScenario(body)
		if err != nil {
			respond(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
		s.Play(scenario)
		w.WriteHeader(http.StatusNoContent)
	}
	mux.HandleFunc("POST /admin/scenario", play)
	mux.HandleFunc("PUT /admin/power/{state}", func(w http.ResponseWriter, r *http.Request) {
		state := PowerState(r.PathValue("state"))
		if !state.known() {
			respond(
				w, http.StatusBadRequest,
				map[string]string{"error": fmt.Sprintf("power %q is not one of Running, Stopping, Stopped, Starting", state)},
			)
			return
		}
		s.SetPower(state)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /admin/pools/{name}", func(w http.ResponseWriter, r *http.Request) {
		s.RemovePool(r.PathValue("name"))
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
