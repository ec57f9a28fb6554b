// Package spell finds the name that a mistyped one was meant to be.
package spell

import (
	"math"
	"slices"
)

// Nearest returns the name with the smallest edit distance to s if that is at
// most a third of the longer one's length or one edit, otherwise "". The first
// in alphabetical order wins a tie.
func Nearest(s string, names []string) string {
	best, least := "", math.MaxInt
	for _, name := range slices.Sorted(slices.Values(names)) {
		d := Distance(s, name)
		if d < least && d <= max(1, max(len(s), len(name))/3) {
			best, least = name, d
		}
	}
	return best
}

// Distance is the edit distance with insertion, deletion, substitution and the
// transposition of neighbours (optimal string alignment), over bytes of names cut
// at 64.
func Distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
