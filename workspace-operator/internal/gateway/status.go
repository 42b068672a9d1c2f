// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"sync"
)

// drain is how far a stop has come. It begins and ends once.
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

// Status returns the handler of the pages that are for the cluster and not for clients. It is served on a port of its
// own, which no Service has.
//
//	/healthz  the gateway is alive
//	/readyz   the engine serves the model, and the gateway is not stopping
//	/metrics  the gateway's metrics and the engine's
//	/drained  waits until the gateway has stopped, and answers then: the preStop hook of the engine's container
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
			message: "Served here are /healthz, /readyz, /metrics and /drained. Models answer on the port of the Service.",
		}).write(w)
	})
	return mux
}

// serveDrained answers when the gateway has no request any more and takes none. The kubelet stops all containers of a
// pod at once and waits for the hook of each, so this keeps the engine until the last stream is over, and no longer.
// The kubelet bounds the wait by the pod's grace period.
//
// The hook also runs where the engine's container alone is restarted, because its startup probe has failed. Then no
// stop begins, and the answer comes after drain-delay.
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
