package spell

import "testing"

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"latnet", "latent", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"same", "same", 0},
	} {
		if got := Distance(tt.a, tt.b); got != tt.want || Distance(tt.b, tt.a) != tt.want {
			t.Errorf("Distance(%q, %q) = %d, want %d both ways", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestNearest(t *testing.T) {
	for _, tt := range []struct{ word, want string }{
		{"latnet", "latent"}, {"width", "width"}, {"witdh", "width"}, {"entirely else", ""}, {"", ""},
	} {
		if got := Nearest(tt.word, []string{"latent", "width"}); got != tt.want {
			t.Errorf("Nearest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}
