package report

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	script := `<script>
const table = document.querySelector("table.sortable"), head = table.tHead.rows[0].cells[3];
const order = () => [...table.tBodies[0].rows].map(row => row.cells[0].firstChild.data).join(",");
const seen = [order()];
for (let i = 0; i < 2; i++) { head.click(); seen.push(order()); }
document.body.innerHTML = "<pre>" + seen.join("\n") + "\n" + table.tBodies[0].rows[0].cells[3].title + "</pre>";
</script></body>`
	clicked := filepath.Join(out, "clicked.html")
	if err := os.WriteFile(clicked, bytes.Replace(text, []byte("</body>"), []byte(script), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	document := dump(t, chromium, clicked, "--dump-dom")
	_, rest, _ := strings.Cut(document, "<pre>")
	rest, _, _ = strings.Cut(rest, "</pre>")
	// Means of the golden table: PaDiM_R .873, AE .762, file size .747, chance .512.
	want := []string{
		"AE (latent 64),PaDiM_R,chance,file size",
		"PaDiM_R,AE (latent 64),file size,chance",
		"chance,file size,AE (latent 64),PaDiM_R",
	}
	got := strings.Split(rest, "\n")
	if len(got) != 4 || !slices.Equal(got[:3], want) {
		t.Fatalf("unsorted, clicked once and twice: %q, want %q", got, want)
	}
	if !regexp.MustCompile(`^0\.511667, 3 seeds; 95 % interval over test images 0\.\d+ to 0\.\d+$`).MatchString(got[3]) {
		t.Errorf("hovering over the AUROC of chance tells %q", got[3])
	}
	if dir := os.Getenv("THORAX_SCREENSHOT"); dir != "" { // for people to look at
		dump(t, chromium, page, "--screenshot="+filepath.Join(dir, "report.png"), "--window-size=1500,4200", "--hide-scrollbars")
	}
}
