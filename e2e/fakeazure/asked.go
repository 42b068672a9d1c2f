// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"maps"
	"time"
)

// Write is a call that requested a change, also if it was rejected.
type Write struct {
	Verb, Pool string
	// Tags are the pool's tags. If the pool does not exist, they are those of the PUT.
	Tags map[string]string
	// Absent is true when the pool did not exist.
	Absent bool
	// Refused is the error code of the response, or Dropped. Empty: the write took effect.
	Refused string
	// PowerState is the cluster's state at the time of the write. PowerRead is the state in the last response to a GET of
	// the cluster, at ReadAt.
	PowerState, PowerRead string
	ReadAt                time.Time
	// Retagged is the time at which a user last replaced the pool's tags. Zero: never.
	Retagged time.Time
	Time     time.Time
}

// Accepted returns the writes that took effect.
func (s State) Accepted() []Write {
	var out []Write
	for _, w := range s.Writes {
		if w.Refused == "" && (!w.Absent || w.Verb == "putPool") {
			out = append(out, w)
		}
	}
	return out
}

// Dropped is the value of Write.Refused for a request whose connection was cut before it took effect.
const Dropped = "Dropped"

// asked is the record of a call in progress, or nil if the call only reads.
type asked struct {
	server *Server
	write  Write
}

// asked starts the record of a write while the pool is still unchanged. The caller holds the mutex.
func (s *Server) asked(c *call) *asked {
	if !c.Write {
		return nil
	}
	a := &asked{server: s, write: Write{
		Verb: c.Verb, Pool: c.Pool, PowerState: string(s.power), PowerRead: string(s.powerRead),
		ReadAt: s.powerReadAt, Time: s.now(),
	}}
	if p := s.pools[c.Pool]; p != nil {
		a.write.Tags, a.write.Retagged = maps.Clone(p.Tags), p.Retagged
		return a
	}
	a.write.Absent = true
	if c.Verb == "putPool" {
		var body putBody
		if decode(c.body, &body) == nil {
			_, a.write.Tags, _ = split(body.Properties)
		}
	}
	return a
}

func (a *asked) accepted() { a.server.writes = append(a.server.writes, a.write) }

func (a *asked) refused(code string) {
	if a != nil {
		a.write.Refused = code
		a.server.writes = append(a.server.writes, a.write)
	}
}
