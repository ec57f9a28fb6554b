package config

import (
	"strconv"
	"strings"
	"testing"
)

// oneAE is a sound experiment; the first lines are those of plainData.
const oneAE = plainData + "[[method]]\nname = \"ae\"\n" // method on line 5, name on 6

const phantomData = "seeds = [0]\n[[data]]\nset = \"phantom\"\n[data.phantom]\n"

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		sets       []string
		want       string
	}{
		// syntax
		{"syntax", "a = \n", nil, `experiments/x.toml:1: expected value but found '\n' instead`},
		{"key twice", "seeds = [0]\nseeds = [1]\n", nil, `experiments/x.toml:2: key 'seeds' has already been defined`},
		{"not UTF-8", "a = \"\xff\"\n", nil, `experiments/x.toml:1: invalid UTF-8 byte: 0xff`},
		{"too large", strings.Repeat("#", maxBytes+1), nil, `experiments/x.toml: larger than 256 KiB, no experiment is`},
		// top level
		{"unknown top key", "sedes = [0]\n", nil, `experiments/x.toml:1: sedes: unknown key; did you mean seeds?`},
		{"far from any key", "zzzzzzzz = [0]\n", nil, `experiments/x.toml:1: zzzzzzzz: unknown key; valid keys: data, method, report, seeds, title, train`},
		{"no seeds", "title = \"x\"\n", nil, `experiments/x.toml: seeds: none given, need at least one, such as seeds = [0, 1, 2]`},
		{"empty seeds", "seeds = []\n", nil, `experiments/x.toml:1: seeds: none given, need at least one, such as seeds = [0, 1, 2]`},
		{"negative seed", "seeds = [0, -1]\n", nil, `experiments/x.toml:1: seeds[1]: -1, need 0 or more`},
		{"seed twice", "seeds = [\n  1,\n  2,\n  1,\n]\n", nil, `experiments/x.toml:4: seeds[2]: 1 is listed twice`},
		{"seeds no list", "seeds = 3\n", nil, `experiments/x.toml:1: seeds: 3 is an integer, need an array`},
		{"title no string", "title = 3\nseeds = [0]\n", nil, `experiments/x.toml:1: title: 3 is an integer, need a string`},
		{"seed a date", "seeds = [2020-01-01]\n", nil, `experiments/x.toml:1: seeds[0]: is a date or time, need an integer`},
		// report
		{"unknown metric", oneAE + "[report]\nmetrics = [\"auroc\", \"aurok\"]\n", nil, `experiments/x.toml:8: report.metrics[1]: metric "aurok": unknown, nearest: auroc, aupro@.3, aupro@.05, auprc`},
		{"metric twice", oneAE + "[report]\nmetrics = [\"ap\",\n\"ap\"]\n", nil, `experiments/x.toml:9: report.metrics[1]: "ap" is listed twice`},
		{"no metric", oneAE + "[report]\nmetrics = []\n", nil, `experiments/x.toml:8: report.metrics: empty, need at least one, such as metrics = ["auroc"]`},
		{"unknown format", oneAE + "[report]\nformats = [\"pnk\"]\n", nil, `experiments/x.toml:8: report.formats[0]: "pnk"; did you mean "png"?`},
		{"unknown format, none near", oneAE + "[report]\nformats = [\"docx-2007\"]\n", nil, `experiments/x.toml:8: report.formats[0]: "docx-2007", need one of csv, html, md, pdf, png, svg, tex`},
		{"unknown report key", oneAE + "[report]\ncost = true\n", nil, `experiments/x.toml:8: report.cost: unknown key; did you mean costs?`},
		{"published missing", oneAE + "[report]\npublished = \"no/such.toml\"\n", nil, `experiments/x.toml:8: report.published: "no/such.toml", no file experiments/no/such.toml (paths are relative to the experiment)`},
		{"seeds too late", oneAE + "seeds = [1]\n", nil, `experiments/x.toml:7: method.ae.seeds: unknown key; seeds belongs above the first table of the file`},
		{"report no table", "report = 1\n" + oneAE, nil, `experiments/x.toml:1: report: 1 is an integer, need a table`},
		// data
		{"no data", "seeds = [0]\n", nil, `experiments/x.toml: data: missing, need at least one [[data]] table`},
		{"data one table", "seeds = [0]\n[data]\nset = \"folder\"\n", nil, `experiments/x.toml:2: data: is one table, need an array of tables: write [[data]]`},
		{"data a number", "seeds = [0]\ndata = 5\n", nil, `experiments/x.toml:2: data: 5 is an integer, need [[data]] tables`},
		{"data numbers", "seeds = [0]\ndata = [5]\n", nil, `experiments/x.toml:2: data: 5 is an integer, need a table`},
		{"data empty", "seeds = [0]\ndata = []\n", nil, `experiments/x.toml:2: data: empty, need at least one [[data]] table`},
		{"unknown set", "seeds = [0]\n[[data]]\nset = \"zhanlab\"\nroot = \"z\"\n", nil, `experiments/x.toml:3: data.zhanlab.set: "zhanlab", need one of folder, zhanglab, covidx, chexpert, chexpert-pa, manifest, phantom, none`},
		{"unknown data key", plainData + "sise = 64\n", nil, `experiments/x.toml:5: data.zhanglab.sise: unknown key; did you mean size?`},
		{"size out of range", plainData + "size = 0\n", nil, `experiments/x.toml:5: data.zhanglab.size: 0, need 8 to 4096`},
		{"size a string", plainData + "size = \"64\"\n", nil, `experiments/x.toml:5: data.zhanglab.size: "64" is a string, need an integer`},
		{"size a float", plainData + "size = 64.0\n", nil, `experiments/x.toml:5: data.zhanglab.size: 64.0 is a float, need an integer`},
		{"validation too large", plainData + "validation = 0.9\n", nil, `experiments/x.toml:5: data.zhanglab.validation: 0.9, need 0 to 0.5`},
		{"validation nan", plainData + "validation = nan\n", nil, `experiments/x.toml:5: data.zhanglab.validation: nan, need a finite number`},
		{"negative split seed", plainData + "split_seed = -1\n", nil, `experiments/x.toml:5: data.zhanglab.split_seed: -1, need 0 or more`},
		{"no root", "seeds = [0]\n[[data]]\nset = \"zhanglab\"\n", nil, `experiments/x.toml:2: data.zhanglab.root: empty, need the folder of the set "zhanglab"`},
		{"data name twice", plainData + "[[data]]\nset = \"folder\"\nroot = \"f\"\nname = \"ZhangLab-128\"\n", nil, `experiments/x.toml:5: data.ZhangLab-128: has the name "ZhangLab-128" of the block on line 2; give one another name`},
		{"data block twice", plainData + "[[data]]\nset = \"zhanglab\"\nroot = \"z\"\nname = \"again\"\n", nil, `experiments/x.toml:5: data.again: "again" has the same configuration as the block "zhanglab-128" on line 2`},
		{"data name a path", plainData + "name = \"../up\"\n", nil, `experiments/x.toml:5: data.name: "../up", need letters, digits, '-', '_' and '.' only`},
		{"second block", plainData + "[[data]]\nset = \"folder\"\nroot = \"f\"\nfit = \"corp\"\n", nil, `experiments/x.toml:8: data.folder.fit: "corp", need one of stretch, pad, crop`},
		{"level out of range", phantomData + "level = 4\n", nil, `experiments/x.toml:5: data.phantom.phantom.level: "4", need "mix", 0, 1, 2 or 3`},
		{"level a float", phantomData + "level = 0.5\n", nil, `experiments/x.toml:5: data.phantom.phantom.level: 0.5, need "mix", 0, 1, 2 or 3`},
		{"unknown phantom key", phantomData + "modalty = \"ct\"\n", nil, `experiments/x.toml:5: data.phantom.phantom.modalty: unknown key; did you mean modality?`},
		{"unknown modality", phantomData + "modality = \"mr\"\n", nil, `experiments/x.toml:5: data.phantom.phantom.modality: "mr", need "radiograph" or "ct"`},
		{"phantom with a root", "seeds = [0]\n[[data]]\nset = \"phantom\"\nroot = \"z\"\n", nil, `experiments/x.toml:4: data.phantom.root: "z" given with set "phantom", which reads no files; remove it`},
		{"phantom of another set", plainData + "phantom = { level = 1 }\n", nil, `experiments/x.toml:5: data.zhanglab.phantom: given with set "zhanglab"; remove it, or set = "phantom"`},
		// methods
		{"no method", plainData, nil, `experiments/x.toml: method: missing, need at least one [[method]] table`},
		{"method one table", plainData + "[method]\nname = \"ae\"\n", nil, `experiments/x.toml:5: method: is one table, need an array of tables: write [[method]]`},
		{"method without name", plainData + "[[method]]\nlatent = 3\n", nil, `experiments/x.toml:5: method.name: missing, need one of ae, chance`},
		{"unknown method", plainData + "[[method]]\nname = \"chanse\"\n", nil, `experiments/x.toml:6: method.name: no method "chanse"; did you mean "chance"?`},
		{"unknown method, none near", plainData + "[[method]]\nname = \"simsid\"\n", nil, `experiments/x.toml:6: method.name: no method "simsid", need one of ae, chance`},
		{"name no string", plainData + "[[method]]\nname = 1\n", nil, `experiments/x.toml:6: method.name: 1 is an integer, need a string`},
		{"unknown key", oneAE + "latnet = 3\n", nil, `experiments/x.toml:7: method.ae.latnet: unknown key; did you mean latent?`},
		{"unknown key, none near", plainData + "[[method]]\nname = \"chance\"\nwavelength = 3\n", nil, `experiments/x.toml:7: method.chance.wavelength: unknown key; valid keys: data, label, name, on, preset, train, vary`},
		{"misspelt shared key", oneAE + "lable = \"AE\"\n", nil, `experiments/x.toml:7: method.ae.lable: unknown key; did you mean label?`},
		{"budget in the method", oneAE + "steps = 3\n", nil, `experiments/x.toml:7: method.ae.steps: unknown key; did you mean train.steps?`},
		{"unknown nested key", oneAE + "[method.adam]\nlr = 3\n", nil, `experiments/x.toml:8: method.ae.adam.lr: unknown key; valid keys: betas, rate`},
		{"misspelt nested key", oneAE + "adam = { betas = [0, 1],\n rat = 3 }\n", nil, `experiments/x.toml:8: method.ae.adam.rat: unknown key; did you mean rate?`},
		{"key of an element", oneAE + "stages = [\n  { width = 3 },\n  { widht = 3 },\n]\n", nil, `experiments/x.toml:9: method.ae.stages[1].widht: unknown key; did you mean width?`},
		{"type of an element", oneAE + "widths = [1,\n true]\n", nil, `experiments/x.toml:8: method.ae.widths[1]: true is a boolean, need an integer`},
		{"integer for a string", oneAE + "image_score = 3\n", nil, `experiments/x.toml:7: method.ae.image_score: 3 is an integer, need a string`},
		{"string for a bool", oneAE + "skip = \"yes\"\n", nil, `experiments/x.toml:7: method.ae.skip: "yes" is a string, need true or false`},
		{"array for an integer", oneAE + "latent = [3]\n", nil, `experiments/x.toml:7: method.ae.latent: is an array, need an integer`},
		{"table for an integer", oneAE + "latent = { a = 3 }\n", nil, `experiments/x.toml:7: method.ae.latent: is a table, need an integer`},
		{"integer for a table", oneAE + "adam = 3\n", nil, `experiments/x.toml:7: method.ae.adam: 3 is an integer, need a table`},
		{"integer for an array", oneAE + "widths = 3\n", nil, `experiments/x.toml:7: method.ae.widths: 3 is an integer, need an array`},
		{"string for a number", oneAE + "beta = \"1\"\n", nil, `experiments/x.toml:7: method.ae.beta: "1" is a string, need a number`},
		{"too large for the field", oneAE + "depth = 256\n", nil, `experiments/x.toml:7: method.ae.depth: 256, does not fit into 8 bits`},
		{"negative for unsigned", oneAE + "depth = -1\n", nil, `experiments/x.toml:7: method.ae.depth: -1, need 0 or more`},
		{"infinite", oneAE + "beta = inf\n", nil, `experiments/x.toml:7: method.ae.beta: inf, need a finite number`},
		{"too large for float32", oneAE + "beta = 1e60\n", nil, `experiments/x.toml:7: method.ae.beta: 1e+60, does not fit into 32 bits`},
		{"array length", oneAE + "adam.betas = [0.9]\n", nil, `experiments/x.toml:7: method.ae.adam.betas: length 1, need 2`},
		{"Check of a key", oneAE + "skip = true\nlatent = 0\n", nil, `experiments/x.toml:8: method.ae.latent: 0, need 1 or more`},
		{"Check of a nested key", oneAE + "[method.adam]\nrate = 0\n", nil, `experiments/x.toml:8: method.ae.adam.rate: 0, need more than 0`},
		{"Check of an element", oneAE + "widths = [\n3,\n0]\n", nil, `experiments/x.toml:9: method.ae.widths[1]: 0, need 1 or more`},
		{"unknown preset", oneAE + "preset = \"smal\"\n", nil, `experiments/x.toml:7: method.ae.preset: no preset "smal"; did you mean "small"?`},
		{"no presets", plainData + "[[method]]\nname = \"chance\"\npreset = \"smal\"\n", nil, `experiments/x.toml:7: method.chance.preset: "smal", but the method has no presets`},
		{"label without a letter", oneAE + "label = \"--\"\n", nil, `experiments/x.toml:7: method.ae.label: "--", need 1 to 200 letters or digits: it becomes a folder`},
		{"unknown block", oneAE + "on = [\"zhanglab-64\"]\n", nil, `experiments/x.toml:7: method.ae.on[0]: no data block "zhanglab-64"; did you mean "zhanglab-128"?`},
		{"on nothing", oneAE + "on = []\n", nil, `experiments/x.toml:7: method.ae.on: empty, need data blocks (zhanglab-128); leave it out for all`},
		{"on twice", oneAE + "on = [\"zhanglab-128\", \"zhanglab-128\"]\n", nil, `experiments/x.toml:7: method.ae.on[1]: "zhanglab-128" is listed twice`},
		{"hidden key", oneAE + "hidden = 3\n", nil, `experiments/x.toml:7: method.ae.hidden: unknown key; valid keys: adam, beta, data, depth, image_score, label, latent, name, on, preset, skip, stages, train, vary, warm, weight, widths`},
		// train
		{"steps and epochs", oneAE + "train = { steps = 3, epochs = 3 }\n", nil, `experiments/x.toml:7: method.ae.train.epochs: steps is set too, need one of them`},
		{"precision", oneAE + "train = { precision = \"bf61\" }\n", nil, `experiments/x.toml:7: method.ae.train.precision: "bf61"; did you mean "bf16"?`},
		{"precision, none near", oneAE + "train = { precision = \"double\" }\n", nil, `experiments/x.toml:7: method.ae.train.precision: "double", need one of bf16, float32`},
		{"batch", oneAE + "[train]\nbatch = 0\n", nil, `experiments/x.toml:8: train.batch: 0, need 1 to 65536`},
		{"negative steps", oneAE + "[method.train]\nsteps = -3\n", nil, `experiments/x.toml:8: method.ae.train.steps: -3, need 0 to 1000000000`},
		{"unknown train key", oneAE + "[train]\nstep = 3\n", nil, `experiments/x.toml:8: train.step: unknown key; did you mean steps?`},
		{"train no table", oneAE + "train = 100\n", nil, `experiments/x.toml:7: method.ae.train: 100 is an integer, need a table`},
		// vary
		{"vary no table", oneAE + "vary = [3]\n", nil, `experiments/x.toml:7: method.ae.vary: is an array, need a table of lists`},
		{"vary no list", oneAE + "vary = { latent = 3 }\n", nil, `experiments/x.toml:7: method.ae.vary.latent: 3 is an integer, need a list of values`},
		{"vary nothing", oneAE + "vary = { latent = [] }\n", nil, `experiments/x.toml:7: method.ae.vary.latent: empty, need a list of values`},
		{"vary unknown key", oneAE + "vary = { latnet = [3] }\n", nil, `experiments/x.toml:7: method.ae.latnet: unknown key; did you mean latent?`},
		{"vary wrong type", oneAE + "[method.vary]\nskip = [true]\nlatent = [3, \"x\"]\n", nil, `experiments/x.toml:9: method.ae.latent: "x" is a string, need an integer`},
		{"vary out of range", oneAE + "[method.vary]\nadam.rate = [\n  1,\n  0,\n]\n", nil, `experiments/x.toml:10: method.ae.adam.rate: 0, need more than 0`},
		{"vary into a value", oneAE + "vary = { \"latent.x\" = [1] }\nlatent = 3\n", nil, `experiments/x.toml:8: method.ae.latent: is no table, so x cannot be set in it`},
		{"vary and set", oneAE + "latent = 3\nvary = { latent = [1] }\n", nil, `experiments/x.toml:8: method.ae.vary.latent: latent is also set in the row, need one of them`},
		{"vary value twice", oneAE + "vary = { latent = [1, 1] }\n", nil, `experiments/x.toml:7: method.ae.vary.latent[1]: 1 is listed twice`},
		{"vary the name", oneAE + "vary = { name = [\"ae\"] }\n", nil, `experiments/x.toml:7: method.ae.vary.name: cannot be varied; write another [[method]]`},
		{"vary key twice", oneAE + "vary = { \"adam.rate\" = [1], adam.rate = [2] }\n", nil, `experiments/x.toml:7: method.ae.vary.adam.rate: is varied twice`},
		{"vary too much", oneAE + "vary = { latent = [" + numbers(40) + "], depth = [" + numbers(40) + "] }\n", nil, `experiments/x.toml:7: method.ae.vary: expands to more than 1000 rows`},
		// two rows
		{"one slug", oneAE + "[[method]]\nname = \"ae\"\nlatent = 3\n", nil, `experiments/x.toml:7: method.ae: row "ae" would use the folder "ae" of row "ae" on line 5; give one another label`},
		{"contamination out of range", oneAE + "data = { contamination = 1.5 }\n", nil, `experiments/x.toml:7: method.ae.data.contamination: 1.5, need 0 to 1`},
		{"another key of the data", oneAE + "data = { size = 64 }\n", nil, `experiments/x.toml:7: method.ae.data.size: unknown key; valid keys: contamination`},
		{"one configuration", oneAE + "[[method]]\nname = \"ae\"\nlabel = \"AE 128\"\nlatent = 128\n", nil, `experiments/x.toml:7: method.ae: row "AE 128" resolves to the same configuration as row "ae" on line 5`},
		{"varied to one configuration", oneAE + "vary = { beta = [1, 1.0] }\n", nil, `experiments/x.toml:5: method.ae: row "ae beta=1.0" resolves to the same configuration as row "ae beta=1" on line 5`},
		// overrides
		{"no value", oneAE, []string{"data.size"}, `--set data.size: need key=value, such as train.steps=100`},
		{"empty key", oneAE, []string{"=3"}, `--set =3: need key=value, such as train.steps=100`},
		{"override out of range", oneAE + "latent = 3\n", []string{"method.ae.latent=0"}, `--set method.ae.latent=0: method.ae.latent: 0, need 1 or more`},
		{"override type", oneAE, []string{"data.size=small"}, `--set data.size=small: data.zhanglab.size: "small" is a string, need an integer`},
		{"override unknown row", oneAE, []string{"method.aa.latent=0"}, `--set method.aa.latent=0: no row "aa"; did you mean "ae"?`},
		{"override unknown key", oneAE, []string{"method.ae.latnet=0"}, `--set method.ae.latnet=0: method.ae.latnet: unknown key; did you mean latent?`},
		{"override unknown top key", oneAE, []string{"seed=0"}, `--set seed=0: seed: unknown key; did you mean seeds?`},
		{"override inside a value", oneAE, []string{"data.size.x=0"}, `--set data.size.x=0: data.zhanglab.size: is a table, need an integer`},
		{"override list element", oneAE, []string{"method.ae.widths=[3, 0]"}, `--set method.ae.widths=[3, 0]: method.ae.widths[1]: 0, need 1 or more`},
		{"override train", oneAE, []string{"train.batch=0"}, `--set train.batch=0: train.batch: 0, need 1 to 65536`},
		{"override of the whole block", oneAE, []string{"data=3"}, `--set data=3: data: 3 is an integer, need [[data]] tables`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(tt.text, tt.sets...)
			if err == nil {
				t.Fatalf("no error, want %s", tt.want)
			}
			if err.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
		})
	}
}

// numbers lists 1 to n.
func numbers(n int) string {
	s := "1"
	for i := 2; i <= n; i++ {
		s += ", " + strconv.Itoa(i)
	}
	return s
}
