// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"sync"
)

// drain is the state of the stop. It begins and ends once.
type drain struct {
	once, onceEnded sync.Once
	begun, ended    chan struct{}
}

func newDrain() *drain { return &drain{begun: make(chan struct{}), ended: make(chan struct{})} }

func (d *drain) begin() { d.once.Do(func() { close(d.begun) }) }

func (d *drain) end() { d.onceEnded.Do(func() { close(d.ended) }) }

func (d *drain) began() bool {
	select {
	case <-d.begun:
		return true
	default:
		return false
	}
}

// Status returns the handler for the cluster. It has a separate port, which is not in a Service.
//
//	/healthz  the gateway is alive
//	/readyz   the engine serves the model, and the gateway is not stopping
//	/metrics  the gateway's metrics and the engine's
//	/drained  answers when the gateway has stopped: the preStop hook of the engine's container
func (g *Gateway) Status() http.Handler {
	mux := http.NewServeMux()
	for path, page := range map[string]http.HandlerFunc{
		"/healthz": func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
		},
		"/readyz":  g.serveReady,
		"/metrics": g.serveMetrics,
		"/drained": g.serveDrained,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet && r.Method != http.MethodHead {
				methodNotAllowed(r.Method, path, "GET").write(w)
				return
			}
			page(w, r)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		(&apiError{
			status: http.StatusNotFound, kind: typeInvalidRequest, code: "unknown_url",
			message: "This port serves /healthz, /readyz, /metrics and /drained. Models are served on the port of the Service.",
		}).write(w)
	})
	return mux
}

// serveDrained answers when the gateway has no requests and accepts none. The kubelet stops all containers of a pod at
// the same time and waits for their hooks, so the engine runs until the last stream ends. The pod's grace period limits
// the wait.
//
// The hook also runs when only the engine's container is restarted, because its startup probe failed. The gateway then
// does not stop, and the answer comes after drain-delay.
func (g *Gateway) serveDrained(w http.ResponseWriter, r *http.Request) {
	said := "drained"
	select {
	case <-g.drain.begun:
		select {
		case <-g.drain.ended:
		case <-r.Context().Done():
			return
		}
	case <-g.clock.After(g.cfg.DrainDelay):
		said = "not stopping"
	case <-r.Context().Done():
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": said})
}
