package report

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"thorax/framework/record"
)

// browser returns the path of Chromium. Without one the test is skipped, or fails
// where REQUIRE_CHROMIUM=1.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("REQUIRE_CHROMIUM") == "1" {
		t.Fatal("no chromium, but REQUIRE_CHROMIUM=1; apt-get install chromium")
	}
	t.Skip("no chromium; apt-get install chromium")
	return ""
}

// dump opens a page from the file system, without any network, and returns its
// document after the scripts ran.
func dump(t *testing.T, browser, page string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args = append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
		"--host-resolver-rules=MAP * ~NOTFOUND", "--user-data-dir=" + t.TempDir(), "--virtual-time-budget=5000"}, args...)
	cmd := exec.CommandContext(ctx, browser, append(args, "file://"+page)...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", browser, err, log.String())
	}
	return out.String()
}

var firstCell = regexp.MustCompile(`<tr[^>]*><td>([^<]*)`)

// order lists the rows of the first table of results.
func order(t *testing.T, document string) []string {
	t.Helper()
	_, rest, ok := strings.Cut(document, `<table class="results sortable">`)
	if !ok {
		t.Fatal("no table of results")
	}
	_, rest, _ = strings.Cut(rest, "<tbody>")
	body, _, _ := strings.Cut(rest, "</tbody>")
	var labels []string
	for _, m := range firstCell.FindAllStringSubmatch(body, -1) {
		labels = append(labels, m[1])
	}
	return labels
}

// In a browser, from the file system and without a network, a click on a head sorts
// the table and a second one turns it round; hovering shows more digits.
func TestPageInChromium(t *testing.T) {
	chromium := browser(t)
	entries, err := record.Find(filepath.Join(makeRuns(t), "ct-32"))
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	if _, err := Write(out, entries, options); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(out, "report.html")
	plain := dump(t, chromium, page, "--dump-dom")
	if got := order(t, plain); strings.Join(got, ",") != "AE (latent 64),PaDiM_R,chance,file size" {
		t.Errorf("unsorted: %q", got)
	}
	if !regexp.MustCompile(`title="0\.\d{6}, 3 seeds; 95 % interval over test images 0\.\d+ to 0\.\d+"`).MatchString(plain) {
		t.Error("no hover value with six digits and its interval")
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	// Means of the golden table: PaDiM_R .873, AE .762, file size .747, chance .512.
	for name, tt := range map[string]struct{ clicks, want string }{
		"high to low": {"head.click()", "PaDiM_R,AE (latent 64),file size,chance"},
		"low to high": {"head.click(); head.click()", "chance,file size,AE (latent 64),PaDiM_R"},
	} {
		clicked := filepath.Join(out, "clicked.html")
		script := `<script>const head = document.querySelector("table.sortable thead").rows[0].cells[3]; ` + tt.clicks + `</script></body>`
		if err := os.WriteFile(clicked, bytes.Replace(text, []byte("</body>"), []byte(script), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := order(t, dump(t, chromium, clicked, "--dump-dom")); strings.Join(got, ",") != tt.want {
			t.Errorf("%s: %q, want %s", name, got, tt.want)
		}
	}
	if dir := os.Getenv("THORAX_SCREENSHOT"); dir != "" { // for people to look at
		dump(t, chromium, page, "--screenshot="+filepath.Join(dir, "report.png"), "--window-size=1500,4200", "--hide-scrollbars")
	}
}
