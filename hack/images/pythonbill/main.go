// SPDX-License-Identifier: Apache-2.0

// pythonbill writes and checks the bill of materials and the licence report of the trainer's image from its lock file.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const usage = `pythonbill writes and checks the SBOM and the licence report of an image of Python packages.

Usage:
  pythonbill --folder FOLDER names          print the lock's packages, as pip reads them
  pythonbill --folder FOLDER write REPORT   make sbom.spdx.json and LICENCES.md from the lock and pip's report
  pythonbill --folder FOLDER write          make them again without a report, after the Dockerfile's base has changed
  pythonbill --folder FOLDER check          compare both files with the lock and the Dockerfile; reads nothing else

FOLDER has requirements.lock and Dockerfile. REPORT is what "pip install --dry-run --report" has written for the
lock's packages.

Flags:
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run returns the exit code: 0 done, 1 the files differ or cannot be made, 2 wrong usage.
func run(args []string, out, errOut io.Writer) int {
	fs := flag.NewFlagSet("pythonbill", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.Usage = func() {
		_, _ = fmt.Fprint(errOut, usage)
		fs.PrintDefaults()
	}
	folder := fs.String("folder", "tuning-operator/trainer", "folder of the image")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	var err error
	switch verb := fs.Arg(0); {
	case verb == "names" && fs.NArg() == 1:
		err = names(*folder, out)
	case verb == "write" && fs.NArg() <= 2:
		err = write(*folder, fs.Arg(1))
	case verb == "check" && fs.NArg() == 1:
		err = check(*folder)
	default:
		_, _ = fmt.Fprintf(
			errOut, "pythonbill: the arguments are %q; allowed are names, write, write REPORT, check\n", fs.Args(),
		)
		return 2
	}
	if err != nil {
		_, _ = fmt.Fprintln(errOut, "pythonbill:", err)
		return 1
	}
	return 0
}

const (
	billFile    = "sbom.spdx.json"
	licenceFile = "LICENCES.md"
)

func names(folder string, out io.Writer) error {
	lock, err := readLock(folder)
	if err != nil {
		return err
	}
	for _, p := range lock {
		_, _ = fmt.Fprintf(out, "%s==%s\n", p.name, p.version)
	}
	return nil
}

// write writes both files. Without a report the facts about the packages are those of the SBOM that is there.
func write(folder, report string) error {
	bill, licences, err := files(folder, report)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(folder, billFile), bill, 0o644),        //nolint:gosec // meant to be read by all
		os.WriteFile(filepath.Join(folder, licenceFile), licences, 0o644), //nolint:gosec // meant to be read by all
	)
}

// check makes both files again from the lock, the Dockerfile and the facts in the SBOM, and compares them with what is
// there.
func check(folder string) error {
	bill, licences, err := files(folder, "")
	if err != nil {
		return err
	}
	for file, want := range map[string][]byte{billFile: bill, licenceFile: licences} {
		got, err := os.ReadFile(filepath.Join(folder, file)) //nolint:gosec // a file of the folder that the user names
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf(
				"%s differs from what requirements.lock and Dockerfile make: run `make trainer-bill` and commit it",
				filepath.Join(folder, file),
			)
		}
	}
	return nil
}

// files returns the content of both files.
func files(folder, report string) (bill, licences []byte, err error) {
	lock, err := readLock(folder)
	if err != nil {
		return nil, nil, err
	}
	if report == "" {
		err = addBill(lock, filepath.Join(folder, billFile))
	} else {
		err = addReport(lock, report)
	}
	if err != nil {
		return nil, nil, err
	}
	base, err := readBase(folder)
	if err != nil {
		return nil, nil, err
	}
	return render(lock, base)
}
