package images

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"secureconnect/cmd/deploy/internal/inventory"
)

// Command is `deploy images`.
func Command() *cobra.Command {
	cmd := &cobra.Command{Use: "images", Short: "Container images made from packages on this machine"}
	cmd.AddCommand(buildCommand(), pinCommand())
	return cmd
}

func buildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "build",
		Short: "Build the images and archives that are missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			root, err := inventory.Root()
			if err != nil {
				return err
			}
			manifest, err := Build(cmd.Context(), root, toLines(cmd.OutOrStdout()))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d images, %d MB in archives\n",
				len(manifest.Images), manifest.bytes()/1_000_000)
			return err
		},
	}
}

func (m Manifest) bytes() int64 {
	var sum int64
	for _, img := range m.Images {
		sum += img.Bytes
	}
	return sum
}

func toLines(w io.Writer) Progress {
	return func(line string) { _, _ = fmt.Fprintln(w, line) } // a closed terminal does not stop a build
}
