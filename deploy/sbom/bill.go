package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// bill is a bill of materials in CycloneDX 1.5, as far as wsd has something to say.
type bill struct {
	Format      string `json:"bomFormat"`
	SpecVersion string `json:"specVersion"`
	Version     int    `json:"version"`
	Metadata    struct {
		Component component `json:"component"`
	} `json:"metadata"`
	Components []component `json:"components"`
}

// component is a program, a Go module or a Debian package. PURL names it for scanners
// (https://github.com/package-url/purl-spec).
type component struct {
	Type       string      `json:"type"`
	Ref        string      `json:"bom-ref"`
	Name       string      `json:"name"`
	Version    string      `json:"version,omitempty"`
	PURL       string      `json:"purl,omitempty"`
	Components []component `json:"components,omitempty"`
	Properties []property  `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func newBill(name, version string) *bill {
	b := &bill{Format: "CycloneDX", SpecVersion: "1.5", Version: 1}
	b.Metadata.Component = component{Type: "application", Ref: name, Name: name, Version: version}
	return b
}

// addProgram adds the program at path, with the modules and the Go that it was built from.
func (b *bill) addProgram(path string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read what %s was built from: %w", path, err)
	}
	name := filepath.Base(path)
	program := component{Type: "application", Ref: "program:" + name, Name: name,
		Version: b.Metadata.Component.Version}
	for _, setting := range info.Settings {
		if slices.Contains([]string{"GOOS", "GOARCH", "CGO_ENABLED"}, setting.Key) {
			program.Properties = append(program.Properties, property{"go:" + setting.Key, setting.Value})
		}
	}
	version := strings.TrimPrefix(info.GoVersion, "go")
	program.Components = append(program.Components, component{Type: "library", Ref: name + ":stdlib", Name: "stdlib",
		Version: version, PURL: "pkg:golang/stdlib@" + version})
	for _, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		program.Components = append(program.Components, component{Type: "library", Ref: name + ":" + module.Path,
			Name: module.Path, Version: module.Version, PURL: "pkg:golang/" + module.Path + "@" + module.Version})
	}
	b.Components = append(b.Components, program)
	return nil
}

// addPackages adds the Debian packages whose control files are in dir, in the order of their names.
func (b *bill) addPackages(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list packages: %w", err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return fmt.Errorf("read package: %w", err)
		}
		fields := control(string(text))
		name, version, architecture := fields["Package"], fields["Version"], fields["Architecture"]
		if name == "" || version == "" {
			return fmt.Errorf("read package: %s names no package or no version", filepath.Join(dir, entry.Name()))
		}
		purl := fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", name, strings.ReplaceAll(version, "+", "%2B"), architecture)
		b.Components = append(b.Components,
			component{Type: "library", Ref: "deb:" + name, Name: name, Version: version, PURL: purl})
	}
	return nil
}

// control returns the fields of a Debian control file; of those that run over several lines, the first.
func control(text string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, " ") {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields
}

func (b *bill) write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(b)
}
