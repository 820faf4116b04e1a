package report

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// Variables are the names an operator may set, by the file that documents each.
type Variables map[string]string

// Variable is one of them.
type Variable struct{ Name, File string }

// operatorFiles document every variable an operator may override.
var operatorFiles = []string{"addresses.yml", "ports.yml", "versions.yml", "sizes.yml"}

// ReadVariables collects the names; a file that cannot be read only means less advice.
func ReadVariables(root string) Variables {
	variables := make(Variables)
	for _, name := range operatorFiles {
		file := filepath.Join("group_vars", "all", name)
		source, err := os.ReadFile(filepath.Join(root, file)) // #nosec G304 -- in the repository
		if err != nil {
			continue
		}
		var keys map[string]yaml.Node
		if yaml.Unmarshal(source, &keys) != nil {
			continue
		}
		for key := range keys {
			variables[key] = file
		}
	}
	return variables
}

var word = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)

// NamedIn are the variables a message names, in its order. Short words that are also English
// (`addresses`) count only where the message marks them as a name.
func (v Variables) NamedIn(message string) []Variable {
	var named []Variable
	seen := make(map[string]bool)
	for _, at := range word.FindAllStringIndex(message, -1) {
		name := message[at[0]:at[1]]
		file, known := v[name]
		if !known || seen[name] || !looksLikeName(message, at[0], at[1]) {
			continue
		}
		seen[name] = true
		named = append(named, Variable{Name: name, File: file})
	}
	return named
}

func looksLikeName(message string, from, to int) bool {
	if strings.Contains(message[from:to], "_") {
		return true
	}
	const marks = "`'\""
	before := from > 0 && strings.IndexByte(marks, message[from-1]) >= 0
	after := to < len(message) && strings.IndexByte(marks+"[:=", message[to]) >= 0
	return before || after
}
