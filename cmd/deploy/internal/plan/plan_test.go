package plan

import (
	"strings"
	"testing"
)

func TestPlans(t *testing.T) {
	options := Options{Inventory: "inventories/lab", Plays: []string{"0. First", "1. Second"}}
	with := func(change func(*Options)) Options {
		changed := options
		change(&changed)
		return changed
	}
	for name, c := range map[string]struct {
		steps []Step
		want  string
	}{
		"apply": {Apply(options), `
1. Images are built, or found as built before
2. The hosts are brought to the described state
     0. First
     1. Second
   $ ansible-playbook '--extra-vars={"deploy_runs_verify":true}' --inventory=inventories/lab site.yml
3. A person's use of the system is tried
`},
		"apply in check mode verifies nothing, as nothing changed": {Apply(with(func(o *Options) { o.Check = true })), `
1. Images are built, or found as built before
2. The hosts are compared with the described state; nothing is changed
     0. First
     1. Second
   $ ansible-playbook --check --diff '--extra-vars={"deploy_runs_verify":true}' --inventory=inventories/lab site.yml
`},
		"apply without images and verify": {Apply(with(func(o *Options) { o.NoImages, o.NoVerify, o.Plays = true, true, nil })), `
1. The hosts are brought to the described state
   $ ansible-playbook '--extra-vars={"deploy_runs_verify":true}' --inventory=inventories/lab site.yml
`},
		"a run tells the lock who it is, and where an encrypted file's password is": {Apply(with(func(o *Options) {
			o.NoImages, o.NoVerify, o.Plays = true, true, nil
			o.VaultPasswordFile = "/home/me/password"
			o.Run = Identity{ID: "run", PID: 42, What: "deploy apply"}
		})), `
1. The hosts are brought to the described state
   $ ansible-playbook '--extra-vars={"deploy_pid":42,"deploy_run_id":"run","deploy_runs_verify":true,"deploy_what":"deploy apply"}' --inventory=inventories/lab --vault-password-file=/home/me/password site.yml
`},
		"preflight": {Preflight(with(func(o *Options) { o.Plays = nil })), `
1. Whether a deployment could start
   $ ansible-playbook --inventory=inventories/lab deployment/preflight.yml
`},
		"rotate": {Rotate(with(func(o *Options) { o.Plays, o.Secret = nil, "turn" })), `
1. A secret is made anew
   $ ansible-playbook '--extra-vars={"secret":"turn"}' --inventory=inventories/lab deployment/rotate.yml
`},
		"retire": {Retire(with(func(o *Options) { o.Plays, o.Secret = nil, "turn" })), `
1. The old one of a secret goes
   $ ansible-playbook '--extra-vars={"secret":"turn"}' --inventory=inventories/lab deployment/retire.yml
`},
		"retire at once": {Retire(with(func(o *Options) { o.Plays, o.Secret, o.AtOnce = nil, "turn", true })), `
1. The old one of a secret goes
   $ ansible-playbook '--extra-vars={"at_once":true,"secret":"turn"}' --inventory=inventories/lab deployment/retire.yml
`},
	} {
		t.Run(name, func(t *testing.T) {
			var printed strings.Builder
			if err := Print(&printed, c.steps); err != nil {
				t.Fatal(err)
			}
			if got, want := printed.String(), strings.TrimPrefix(c.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestPlays(t *testing.T) {
	plays, err := Plays([]byte("- name: One\n  hosts: all\n- ansible.builtin.import_playbook: two.yml\n"))
	if err != nil || len(plays) != 2 || plays[0] != "One" || plays[1] != "two.yml" {
		t.Errorf("%v, %v", plays, err)
	}
	if _, err := Plays([]byte("{")); err == nil {
		t.Error("a broken playbook has plays")
	}
}
