package sfu

// demand is a track that a receiver is to get, and what its layers take.
type demand struct {
	most  int       // the largest layer that is wanted and there
	now   int       // the layer that passes, −1 if none does
	rates []float64 // bits a second, of the layers from small to large
	alive []bool    // which of them are being sent
}

// keep is what a layer that passes is counted at: what varies a little must not come and go.
const keep = 0.85

// more is what a layer takes beyond the one below it.
func (d demand) more(layer int) float64 {
	more := d.rates[layer]
	if layer > 0 {
		more -= d.rates[layer-1]
	}
	if layer <= d.now {
		more *= keep
	}
	return max(more, 0)
}

// allocate shares what a connection bears among what is wanted of it, which stands in the order of its importance: first everybody the
// smallest layer, then larger ones step by step. It gives the layer of each, −1 for none, and what the next step would take in all.
func allocate(bears float64, demands []demand) (layers []int, next float64) {
	layers = make([]int, len(demands))
	for i := range layers {
		layers[i] = -1
	}
	used := 0.0
	for rank := range rids {
		for i, d := range demands {
			if layers[i] != rank-1 || rank > d.most {
				continue
			}
			if with := used + d.more(rank); with <= bears {
				used, layers[i] = with, rank
			} else if next == 0 {
				next = with
			}
		}
	}
	return layers, next
}

// sent is the layer that can be had of one that was allocated: the largest that is alive and not larger; else the smallest alive; else
// the smallest, which is the first to come.
func (d demand) sent(layer int) int {
	for l := layer; l >= 0; l-- {
		if d.alive[l] {
			return l
		}
	}
	for l, alive := range d.alive {
		if alive {
			return l
		}
	}
	return 0
}
