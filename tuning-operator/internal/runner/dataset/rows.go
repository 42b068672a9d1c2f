// SPDX-License-Identifier: Apache-2.0

package dataset

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/parquet-go/parquet-go"
	"golang.org/x/text/encoding"
	"golang.org/x/text/transform"
)

// maxRowBytes limits one JSON line. 64 MiB are about sixteen million tokens, which no valid row has.
const maxRowBytes = 64 << 20

// unreadableError says that a file is unreadable from a row on.
type unreadableError struct {
	row int64
	why string
}

func (e *unreadableError) Error() string { return e.why }

// sniff detects the format from the content. The extension only decides between the two kinds of JSON.
func sniff(path string) (Format, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading the dataset: %w", err)
	}
	defer func() { _ = in.Close() }()
	head := make([]byte, 512)
	n, err := io.ReadFull(in, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the dataset: %w", err)
	}
	head = bytes.TrimLeft(bytes.TrimPrefix(head[:n], []byte("\xef\xbb\xbf")), " \t\r\n")
	if why := notData(head); why != "" {
		return "", &unreadableError{why: why}
	}
	switch {
	case bytes.HasPrefix(head, []byte("PAR1")):
		return Parquet, nil
	case bytes.HasPrefix(head, []byte("[")):
		return JSON, nil
	case bytes.HasPrefix(head, []byte("{")):
		if strings.EqualFold(filepath.Ext(path), ".json") {
			return JSON, nil
		}
		return JSONL, nil
	}
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".csv":
		return CSV, nil
	case ".parquet":
		return Parquet, nil
	case ".json":
		return JSON, nil
	}
	return JSONL, nil
}

type visit func(n int64, row map[string]any) error

func rows(path string, format Format, each visit) error {
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the dataset: %w", err)
	}
	defer func() { _ = in.Close() }()
	text := transform.NewReader(in, encoding.UTF8Validator)
	switch format {
	case Parquet:
		return parquetRows(in, each)
	case JSONL:
		return jsonLines(text, each)
	case JSON:
		return jsonDocument(text, each)
	case CSV:
		return csvRows(text, each)
	}
	return fmt.Errorf("format %q is unknown", format)
}

// parquetRows turns the decoder's panics on damaged files into errors: users supply the files.
func parquetRows(in *os.File, each visit) (err error) {
	var n int64
	defer func() {
		if p := recover(); p != nil {
			err = &unreadableError{row: n, why: fmt.Sprintf("damaged parquet file: %v", p)}
		}
	}()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("reading the dataset: %w", err)
	}
	if err := checkFooter(in, info.Size()); err != nil {
		return &unreadableError{why: fmt.Sprintf("incomplete parquet file: %v", err)}
	}
	file, err := parquet.OpenFile(in, info.Size())
	if err != nil {
		return &unreadableError{why: fmt.Sprintf("incomplete parquet file: %v", err)}
	}
	reader := parquet.NewGenericReader[any](file)
	defer func() { _ = reader.Close() }()
	batch := make([]any, 256)
	for {
		clear(batch)
		got, rerr := reader.Read(batch)
		for _, v := range batch[:got] {
			n++
			row, ok := v.(map[string]any)
			if !ok {
				return &unreadableError{row: n, why: "not a record"}
			}
			if err := each(n, row); err != nil {
				return err
			}
		}
		if errors.Is(rerr, io.EOF) {
			return nil
		}
		if rerr != nil {
			return &unreadableError{row: n + 1, why: fmt.Sprintf("damaged parquet file: %v", rerr)}
		}
	}
}

// checkFooter compares the length of the footer, which is at the end of the file, with the size of the file. The
// decoder would allocate the length that a damaged file declares, up to 2 GiB.
func checkFooter(in io.ReaderAt, size int64) error {
	const magic, frame = "PAR1", 12 // the magic twice, and the length
	var tail [8]byte
	if size < frame {
		return fmt.Errorf("it has %d bytes", size)
	}
	if _, err := in.ReadAt(tail[:], size-int64(len(tail))); err != nil {
		return err
	}
	if string(tail[4:]) != magic {
		return errors.New("its end is missing")
	}
	if length := int64(binary.LittleEndian.Uint32(tail[:4])); length > size-frame {
		return fmt.Errorf("its footer has %d bytes according to its end, more than the file", length)
	}
	return nil
}

func jsonLines(in io.Reader, each visit) error {
	scanner := bufio.NewScanner(in)
	scanner.Buffer(make([]byte, 1<<20), maxRowBytes)
	var n int64
	for scanner.Scan() {
		n++
		line := bytes.TrimSpace(bytes.TrimPrefix(scanner.Bytes(), []byte("\xef\xbb\xbf")))
		if len(line) == 0 {
			continue
		}
		row, err := object(line)
		if err != nil {
			return &unreadableError{row: n, why: err.Error()}
		}
		if err := each(n, row); err != nil {
			return err
		}
	}
	if errors.Is(scanner.Err(), bufio.ErrTooLong) {
		return &unreadableError{row: n + 1, why: fmt.Sprintf("longer than %d MiB", maxRowBytes>>20)}
	}
	return unreadable(n+1, scanner.Err())
}

// jsonDocument reads an array of objects, or a sequence of objects.
func jsonDocument(in io.Reader, each visit) error {
	buf := bufio.NewReader(in)
	if bom, err := buf.Peek(3); err == nil && string(bom) == "\xef\xbb\xbf" {
		_, _ = buf.Discard(3) // peeked above
	}
	dec := json.NewDecoder(buf)
	array, err := opensArray(buf)
	if err != nil {
		return unreadable(0, fmt.Errorf("not JSON: %w", err))
	}
	if array {
		if _, err := dec.Token(); err != nil {
			return unreadable(0, fmt.Errorf("not JSON: %w", err))
		}
	}
	for n := int64(1); ; n++ {
		if array && !dec.More() {
			if _, err := dec.Token(); err != nil {
				return unreadable(n, fmt.Errorf("the array does not end: %w", err))
			}
			return nil
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); errors.Is(err, io.EOF) && !array {
			return nil
		} else if err != nil {
			return unreadable(n, fmt.Errorf("not JSON: %w", err))
		}
		row, err := object(raw)
		if err != nil {
			return &unreadableError{row: n, why: err.Error()}
		}
		if err := each(n, row); err != nil {
			return err
		}
	}
}

func opensArray(buf *bufio.Reader) (bool, error) {
	for {
		b, err := buf.ReadByte()
		if err != nil {
			return false, err
		}
		if b == ' ' || b == '\t' || b == '\r' || b == '\n' {
			continue
		}
		return b == '[', buf.UnreadByte()
	}
}

func csvRows(in io.Reader, each visit) error {
	buf := bufio.NewReader(in)
	if bom, err := buf.Peek(3); err == nil && string(bom) == "\xef\xbb\xbf" {
		_, _ = buf.Discard(3) // peeked above
	}
	r := csv.NewReader(buf)
	r.ReuseRecord, r.LazyQuotes = true, true // a quote within a field is a part of it
	first, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return unreadable(0, fmt.Errorf("not CSV: %w", err))
	}
	head := append([]string(nil), first...)
	for n := int64(1); ; n++ {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return unreadable(n, fmt.Errorf("not CSV: %w", err))
		}
		row := make(map[string]any, len(head))
		for i, name := range head {
			row[name] = record[i]
		}
		if err := each(n, row); err != nil {
			return err
		}
	}
}
