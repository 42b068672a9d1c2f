// SPDX-License-Identifier: Apache-2.0

package fakeazure

import (
	"maps"
	"time"
)

// Write is a call that was to change something, whether it did or not.
type Write struct {
	Verb, Pool string
	// Tags are the pool's; of a pool that is not there, those that the PUT gives it.
	Tags map[string]string
	// Absent: there was no such pool, yet or any more.
	Absent bool
	// Refused is the code of the error that it was answered with, or Dropped; empty when it took effect.
	Refused string
	// PowerState is the cluster's then, Told what the last GET of the cluster was answered, and ToldAt when that was.
	PowerState, Told string
	ToldAt           time.Time
	// Retagged is when a person replaced the pool's tags last; zero: never.
	Retagged time.Time
	Time     time.Time
}

// Accepted are the writes that changed something.
func (s State) Accepted() []Write {
	var out []Write
	for _, w := range s.Writes {
		if w.Refused == "" && (!w.Absent || w.Verb == "putPool") {
			out = append(out, w)
		}
	}
	return out
}

// Dropped stands in Write.Refused for a request that a cut connection kept from taking effect.
const Dropped = "Dropped"

// asked is the record of a call on its way; nil for one that only reads.
type asked struct {
	server *Server
	write  Write
}

// asked begins the record of a write, as long as its pool is what it was; the caller holds the mutex.
func (s *Server) asked(c *call) *asked {
	if !c.Write {
		return nil
	}
	a := &asked{server: s, write: Write{
		Verb: c.Verb, Pool: c.Pool, PowerState: string(s.power), Told: string(s.told), ToldAt: s.toldAt, Time: s.now(),
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
