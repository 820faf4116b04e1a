package images

import (
	"slices"
	"testing"
)

func TestDebianOptionsAreThoseOfTheFileWithoutComments(t *testing.T) {
	options, err := debianOptions(repository)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(options, "--variant=minbase") {
		t.Errorf("options %q without the variant", options)
	}
	for _, o := range options {
		if o[:2] != "--" {
			t.Errorf("%q is no option", o)
		}
	}
}

func TestDebianRefChangesWithReleaseAndOptions(t *testing.T) {
	refs := []string{
		debianRef(Debian13, []string{"--a"}), debianRef(Debian12, []string{"--a"}), debianRef(Debian13, []string{"--b"}),
	}
	slices.Sort(refs)
	if len(slices.Compact(refs)) != 3 {
		t.Errorf("not all different: %v", refs)
	}
}
