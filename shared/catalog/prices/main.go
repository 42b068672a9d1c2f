// SPDX-License-Identifier: Apache-2.0

// prices writes the catalogue's list prices, as Azure's Retail Prices API has them today. The API is public and needs
// no account.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"kaito.sh/shared/catalog"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "prices:", err)
		os.Exit(1) //nolint:gocritic // nothing else is deferred
	}
}

func run(ctx context.Context, args []string, log io.Writer) error {
	flags := flag.NewFlagSet("prices", flag.ContinueOnError)
	file := flags.String("out", "catalog/data/prices.yaml", "the file to write")
	api := flags.String("api", "https://prices.azure.com/api/retail/prices", "the address of the API")
	if err := flags.Parse(args); err != nil {
		return err
	}
	known, err := catalog.Load()
	if err != nil {
		return err
	}
	prices := map[string]map[string]float64{}
	sizes := known.Sizes()
	for i, size := range sizes {
		_, _ = fmt.Fprintf(log, "%d of %d: %s\n", i+1, len(sizes), size.Name) // progress
		regions, err := ask(ctx, http.DefaultClient, *api, size.Name)
		if err != nil {
			return fmt.Errorf("asking for the prices of %s: %w", size.Name, err)
		}
		if len(regions) > 0 {
			prices[size.Name] = regions
		}
	}
	if len(prices) == 0 {
		return fmt.Errorf("%s has no price of any size: %s is left as it was", *api, *file)
	}
	var order []string
	for _, size := range sizes {
		order = append(order, size.Name)
	}
	return os.WriteFile(*file, []byte(document(time.Now().UTC().Format(time.DateOnly), order, prices)), 0o644)
}

// lineWidth is where a list of regions is broken.
const lineWidth = 150

// document is the text of prices.yaml, with sizes in the order of the catalogue.
func document(date string, order []string, prices map[string]map[string]float64) string {
	var out strings.Builder
	out.WriteString(`# List prices in US dollars an hour for one Linux node, on demand, as Azure's Retail Prices API has
# them on the date below (make prices). A size with no price in a region is not offered there. Spot
# prices change by the hour and are not here; Azure never charges more for spot than the on-demand
# price.
prices:
  date: "` + date + `"
  onDemand:
`)
	for _, size := range order {
		regions := prices[size]
		if len(regions) == 0 {
			continue
		}
		out.WriteString("    " + size + ":\n")
		line := "      {"
		for i, region := range slices.Sorted(maps.Keys(regions)) {
			entry := region + ": " + strconv.FormatFloat(regions[region], 'f', -1, 64)
			if i > 0 {
				line += ","
				if len(line)+len(entry) > lineWidth {
					out.WriteString(line + "\n")
					line = "      "
				}
				line += " "
			}
			line += entry
		}
		out.WriteString(line + "}\n")
	}
	return out.String()
}
