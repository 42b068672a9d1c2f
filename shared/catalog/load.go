// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"embed"
	"fmt"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed data/*.yaml
var embedded embed.FS

// Load reads the embedded data and applies the overrides in order. An override is a document with any of the keys of
// the embedded files. It replaces models, sizes and quantizations of the same name, single prices, and the whole lists
// of engines and MIG tables. The error is a *SchemaError.
func Load(overrides ...[]byte) (*Catalog, error) {
	c := &Catalog{
		models: map[string]Model{}, names: map[string]string{}, sizes: map[string]Size{},
		prices: map[string]map[string]float64{}, regions: map[string]bool{},
		quantizations: map[string]Quantization{},
	}
	files, err := embedded.ReadDir("data")
	if err != nil {
		return nil, fmt.Errorf("reading the embedded catalogue: %w", err)
	}
	for _, f := range files {
		document, err := embedded.ReadFile("data/" + f.Name())
		if err != nil {
			return nil, fmt.Errorf("reading the embedded catalogue: %w", err)
		}
		if err := c.add(f.Name(), document); err != nil {
			return nil, err
		}
	}
	for i, document := range overrides {
		if err := c.add(fmt.Sprintf("override %d", i+1), document); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Catalog) add(file string, document []byte) error {
	d := decoder{file: file}
	root, err := d.root(document)
	if err != nil || root == nil {
		return err
	}
	var engines []Engine
	var mig []migTable
	err = d.object("", root,
		optional("models", list(func(d decoder, path string, n *yaml.Node) error {
			m, err := decodeModel(d, path, n)
			if err != nil {
				return err
			}
			c.models[strings.ToLower(m.ID)] = m
			return nil
		})),
		optional("sizes", list(func(d decoder, path string, n *yaml.Node) error {
			s, err := decodeSize(d, path, n)
			if err != nil {
				return err
			}
			c.sizes[strings.ToLower(s.Name)] = s
			return nil
		})),
		optional("mig", list(func(d decoder, path string, n *yaml.Node) error {
			t, err := decodeMIG(d, path, n)
			mig = append(mig, t)
			return err
		})),
		optional("prices", func(d decoder, path string, n *yaml.Node) error { return c.addPrices(d, path, n) }),
		optional("engines", list(func(d decoder, path string, n *yaml.Node) error {
			e, err := decodeEngine(d, path, n)
			engines = append(engines, e)
			return err
		})),
		optional("quantizations", list(func(d decoder, path string, n *yaml.Node) error {
			q, err := decodeQuantization(d, path, n)
			c.quantizations[q.Method] = q
			return err
		})),
	)
	if err != nil {
		return err
	}
	if engines != nil {
		sort.SliceStable(engines, func(i, j int) bool { return versionLess(engines[j].Version, engines[i].Version) })
		c.engines = engines
	}
	if mig != nil {
		c.mig = mig
	}
	return c.index(d, root)
}

// index maps each accepted name to its model, and refuses a name of two models.
func (c *Catalog) index(d decoder, root *yaml.Node) error {
	names := map[string]string{}
	for _, m := range c.Models() {
		id := strings.ToLower(m.ID)
		accepted := append([]string{id, id[strings.LastIndex(id, "/")+1:]}, m.Aliases...)
		for _, name := range accepted {
			if other, taken := names[name]; taken && other != id {
				return d.errorf("models.aliases", &yaml.Node{Kind: yaml.ScalarNode, Line: lineOf(root, name), Value: name},
					fmt.Sprintf("a name of one model only: %s and %s have it", c.models[other].ID, m.ID))
			}
			names[name] = id
		}
	}
	c.names = names
	return nil
}

// lineOf returns the line of a name. Letter case does not matter.
func lineOf(n *yaml.Node, name string) int {
	if n.Kind == yaml.ScalarNode && strings.EqualFold(n.Value, name) {
		return n.Line
	}
	for _, child := range n.Content {
		if line := lineOf(child, name); line > 0 {
			return line
		}
	}
	return 0
}

func (c *Catalog) addPrices(d decoder, path string, n *yaml.Node) error {
	return d.object(path, n,
		required("date", text(&c.priceDate, dateText, "a day, YYYY-MM-DD")),
		required("onDemand", entries(func(d decoder, path, size string, n *yaml.Node) error {
			size = strings.ToLower(size)
			if c.prices[size] == nil {
				c.prices[size] = map[string]float64{}
			}
			return entries(func(d decoder, path, region string, n *yaml.Node) error {
				var usd float64
				if err := measure(&usd, 10000)(d, path, n); err != nil {
					return err
				}
				c.prices[size][normalizeRegion(region)] = usd
				c.regions[normalizeRegion(region)] = true
				return nil
			})(d, path, n)
		})),
	)
}
