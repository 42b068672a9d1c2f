// SPDX-License-Identifier: Apache-2.0

package pool

import "time"

func sightMachine(providerID string) string { return "machine " + providerID }
func sightCount(pool string) string         { return "count " + pool }
func sightPut(pool string) string           { return "put " + pool }
func sightMissing(providerID string) string { return "missing " + providerID }

// confirm records that a view of that time has shown the subject. It returns true when two views, at least Grace apart,
// have shown it.
func (d *decider) confirm(subject string, at time.Time) bool {
	seen := d.Sightings[subject]
	if already, ok := d.out.Sightings[subject]; ok {
		seen = already
	}
	switch {
	case seen.Count == 0:
		seen = Sighting{First: at, Last: at, Count: 1}
	case at.After(seen.Last):
		seen.Last = at
		seen.Count++
	}
	d.out.Sightings[subject] = seen
	if seen.Count >= 2 && seen.Last.Sub(seen.First) >= d.Settings.Grace {
		return true
	}
	d.due(seen.First.Add(d.Settings.Grace))
	return false
}

// confirmed returns what confirm returned, or will return, for the subject.
func (d *decider) confirmed(subject string) bool {
	seen, ok := d.Sightings[subject]
	return ok && seen.Count >= 2 && seen.Last.Sub(seen.First) >= d.Settings.Grace
}

func (d *decider) held(subject string) (Hold, bool) {
	h, ok := d.Holds[subject]
	if !ok || !d.Now.Before(h.Until) {
		return Hold{}, false
	}
	d.due(h.Until)
	return h, true
}
