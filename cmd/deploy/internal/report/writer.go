package report

import "bytes"

// Writer hands what is written to it to say, line by line. It is used from one goroutine.
type Writer struct {
	Say  func(line string)
	half []byte
}

func (w *Writer) Write(p []byte) (int, error) {
	w.half = append(w.half, p...)
	for {
		line, rest, whole := bytes.Cut(w.half, []byte{'\n'})
		if !whole {
			return len(p), nil
		}
		w.Say(string(line))
		w.half = rest
	}
}
