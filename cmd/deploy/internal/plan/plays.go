package plan

import (
	"fmt"

	"gopkg.in/yaml.v3"
)

// Plays are the names of a playbook's plays, in order.
func Plays(source []byte) ([]string, error) {
	var plays []struct {
		Name   string `yaml:"name"`
		Import string `yaml:"ansible.builtin.import_playbook"`
	}
	if err := yaml.Unmarshal(source, &plays); err != nil {
		return nil, fmt.Errorf("read the plays: %w", err)
	}
	names := make([]string, 0, len(plays))
	for _, play := range plays {
		if play.Name == "" {
			play.Name = play.Import
		}
		names = append(names, play.Name)
	}
	return names, nil
}
