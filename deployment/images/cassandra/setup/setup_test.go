package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStatementsQuoteWhatTheyHold(t *testing.T) {
	all, err := statements(login{"secureconnect", "a'b"}, "dc'1", "random")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, s := range all {
		text.WriteString(s.cql + "\n")
	}
	for _, want := range []string{`PASSWORD = 'a''b'`, `'dc''1': 1`, `ALTER ROLE cassandra WITH SUPERUSER = false AND LOGIN = false`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %s in\n%s", want, text.String())
		}
	}
}

func TestStatementsCloseTheDefaultLoginLast(t *testing.T) {
	all, err := statements(login{"secureconnect", "x"}, "dc1", "random")
	if err != nil {
		t.Fatal(err)
	}
	if last := all[len(all)-1].what; last != "close the default login" {
		t.Errorf("the last is to %s: an interrupted setup could not go on", last)
	}
	if _, err := statements(login{"secureconnect", "x"}, "dc1", ""); err == nil {
		t.Error("the default login got an empty password")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	l := login{"admin", "hidden"}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if strings.Contains(fmt.Sprintf(format, l), "hidden") {
			t.Errorf("%s prints the password", format)
		}
	}
}

func TestReadRolesWantsBothPasswords(t *testing.T) {
	dir := t.TempDir()
	write := func(name, value string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cassandra_admin_password", "one\n")
	if _, err := readRoles(dir); err == nil {
		t.Error("no error without the service's password")
	}
	write("cassandra_password", "\n")
	if _, err := readRoles(dir); err == nil {
		t.Error("no error with an empty password")
	}
	write("cassandra_password", "two\n")
	got, err := readRoles(dir)
	if err != nil || got.Admin != (login{"admin", "one"}) || got.Service != (login{"secureconnect", "two"}) {
		t.Errorf("roles %v, error %v", got, err)
	}
}
