package reload

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// FileMax is the size in bytes of the largest file that is read.
const FileMax = 1 << 20

// ErrNotRegular is the error for a pipe or a device, which may block or have something else each time.
var ErrNotRegular = errors.New("not a regular file, and wsd reads it again while it runs")

// ReadRegular reads a regular file of at most FileMax bytes. It does not open anything else.
func ReadRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: ErrNotRegular}
	}
	return Read(path)
}

// Read reads a file of at most FileMax bytes. It may block if the file is a pipe.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, FileMax+1))
	if err == nil && len(text) > FileMax {
		err = fmt.Errorf("larger than %d bytes", FileMax)
	}
	return text, err
}
