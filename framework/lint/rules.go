package lint

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"thorax/framework/metric"
	"thorax/framework/published"
	"thorax/framework/record"
)

// The limits of the rules.
const (
	leastSeeds      = 3    // for a table
	leastValidation = 100  // images for a threshold
	saturated       = .01  // share of test images with the one highest or lowest score
	confounded      = .65  // AUROC of a row that looks at nothing medical
	unlike          = .05  // difference of prevalences
	fixedPlaces     = .8   // share of the variance of anomaly maps that lies between places; 0 to 0.6 where methods were seen to work
	batchTolerance  = 1e-5 // of a score, relative to the spread of all
)

var rules = []rule{
	{"L1", "A threshold chosen with test labels gives an upper bound, not a result.",
		"show it beside its honest twin, such as f1@q-val.05", oracleAlone},
	{"L2", "A checkpoint or hyper-parameter chosen with abnormal labels is no longer unsupervised.",
		"train a fixed budget and take the last checkpoint, or select by the loss on validation normals", labelledSelection},
	{"L3", "Scores scaled by the test set's own minimum and maximum: harmless for AUROC, fatal for a threshold.",
		"scale by validation normals, or not at all", scaledOnTest},
	{"L4", "A validation set that is missing, or is the test set, makes thresholds oracles.",
		"hold out normals: validation = 0.1", noValidation},
	{"L5", "One patient on both sides of a split makes the task easier than it is.",
		"give patient or study ids, and split by them", patients},
	{"L6", "The negatives of this set are not healthy but free of one disease.",
		"say so beside the figures", notHealthy},
	{"L7", "An image that occurs twice counts twice, or was seen in training.",
		"run thorax data check and remove all but one", twice},
	{"L8", "AP, F1 and accuracy depend on the share of abnormal images; between sets of unlike prevalence they do not compare.",
		"compare AUROC, or sensitivity at a fixed specificity", prevalences},
	{"L9", "Scanner, view, age or file type may give the label away.",
		"keep trivial rows (chance, mean_intensity, file_size) in the table, and look at what the best of them sees", confounding},
	{"L10", "A score that depends on the other images of its batch is not a property of the image.",
		"score with running statistics, or one image at a time", batchDependence},
	{"L11", "Scores that reach the end of their range tie, and ties cost AUROC.",
		"score before the sigmoid or the clipping, in the logarithm", saturation},
	{"L12", "Some implementations of AUROC assume scores in [0,1] or flip curves below the diagonal.",
		"score again: AUROC here is the Mann–Whitney statistic of any scores", otherAUROC},
	{"L13", "A lesion that vanishes when its mask is resized turns an abnormal image into an unmatched one.",
		"train at a larger size, or with fit = \"pad\"", nothing},
	{"L14", "Masks paired with images by the order of their names may belong to others.",
		"name each mask as its image", nothing},
	{"L15", "A metric that was not computed must not be shown as 0.",
		"score again, or leave the figure out", zeros},
	{"L16", "The area under the precision–recall curve by trapezoids is not average precision.",
		"use ap, and compare with papers that say which they print", trapezoid},
	{"L17", "AUPRO differs by points between implementations: thresholds, normalisation, pooling.",
		"compute all rows with one definition, and compare with no other", auproVariants},
	{"L18", "Dice depends on the pool of images, on the threshold's rule and on the grid.",
		"use one pool, one rule and one grid in a table", diceVariants},
	{"L19", "A deviation over one or two seeds, over folds or over members of an ensemble is no measure of repeats.",
		"run at least 3 seeds for every row, 5 for a claim", repeats},
	{"L20", "Abnormal images among those that a model is trained or calibrated on.",
		"remove them, or call it a contamination study", contamination},
	{"L21", "Rows trained on other images, or on another split, do not compare.",
		"run all rows on one version of the data set and one split", otherTraining},
	{"L22", "Parameter counts that skip custom layers mislead.",
		"count the variables of the graph, or leave the column out", uncounted},
	{"L23", "Last-epoch and best-epoch rows in one table differ by their selection, not by their methods.",
		"use one selection for all rows", mixedSelection},
	{"L24", "A validation set of a few images cannot hold a threshold.",
		"hold out at least 100 normals of the training set", smallValidation},
	{"L25", "A DICOM window or 16-bit range lost to 8 bits before normalisation cannot be had back.",
		"window first, then reduce", nothing},
	{"L26", "Anomaly maps that are nearly the same in every image tell where the method looks, not where a lesion is.",
		"look at the cases of either class (thorax plot --kind cases) before the figure is believed", samePlaces},
}

// nothing is the check of rules that only images decide, by [data.Check].
func nothing(*facts) []string { return nil }

// split takes a metric's name apart.
func split(s metric.Spec) (base, rule string) {
	name, _, _ := strings.Cut(s.Name, ":")
	base, rule, _ = strings.Cut(name, "@")
	return base, rule
}

func oracleAlone(f *facts) (found []string) {
	for _, spec := range f.metrics {
		base, _ := split(spec)
		honest := slices.ContainsFunc(f.metrics, func(s metric.Spec) bool {
			b, rule := split(s)
			return b == base && rule != "" && !s.Oracle()
		})
		if spec.Oracle() && !honest {
			found = append(found, fmt.Sprintf("%s is chosen with the test labels, and no honest %s stands beside it", spec.Name, base))
		}
	}
	return found
}

// selection is the rule by which a row's checkpoint was chosen: "last" unless a key
// says otherwise.
func (c configured) selection() string {
	for _, key := range []string{"selection", "train.selection", "select", "checkpoint"} {
		if v := c.keys[key]; v != "" {
			return v
		}
	}
	for _, key := range []string{"patience", "early_stopping", "train.patience"} {
		if v := c.keys[key]; v != "" && v != "0" && v != "false" {
			return "val-loss"
		}
	}
	return "last"
}

func labelledSelection(f *facts) (found []string) {
	labelled := []string{"val-auc", "val-auroc", "test", "test-auc", "best", "best-test", "oracle"}
	for _, c := range f.rows {
		if s := c.selection(); slices.Contains(labelled, s) {
			found = append(found, fmt.Sprintf("%s: selection %q needs abnormal labels", c.where, s))
		}
	}
	for _, p := range f.files {
		if slices.Contains(labelled, p.Protocol.Selection) {
			found = append(found, fmt.Sprintf("%s: its published figures were selected by %s", p.Source, p.Protocol.Selection))
		}
	}
	return found
}

func scaledOnTest(f *facts) (found []string) {
	for _, spec := range f.metrics {
		if _, rule := split(spec); strings.HasPrefix(rule, "fixed") {
			found = append(found, fmt.Sprintf("%s: its threshold lies between the lowest and the highest test score", spec.Name))
		}
	}
	for _, r := range f.runs {
		scores, _ := r.test()
		if r.Run.Family != trivial && len(scores) > 20 && slices.Min(scores) == 0 && slices.Max(scores) == 1 {
			found = append(found, fmt.Sprintf("%s: the test scores span exactly 0 to 1", r.name()))
		}
	}
	return found
}

func noValidation(f *facts) (found []string) {
	needed := slices.ContainsFunc(f.metrics, func(s metric.Spec) bool {
		_, rule := split(s)
		return strings.HasPrefix(rule, "q-val") || rule == "max-val" || rule == "f1-val"
	})
	for _, b := range f.blocks {
		if b.validation == 0 && needed {
			found = append(found, fmt.Sprintf("%s: validation = 0, but a metric takes its threshold from validation images", b.name))
		}
	}
	for _, r := range f.runs {
		seen, shared := map[string]bool{}, 0
		for _, s := range r.scores {
			if s.Split == "validation" {
				seen[s.Path] = true
			}
		}
		for _, s := range r.scores {
			if s.Split == "test" && seen[s.Path] {
				shared++
			}
		}
		if shared > 0 {
			found = append(found, fmt.Sprintf("%s: %d images are in validation and test", r.name(), shared))
		}
	}
	return found
}

func patients(f *facts) (found []string) {
	for _, set := range f.sets {
		r := f.of(set)[0]
		in := map[string]map[string]bool{}
		known := 0
		for _, s := range r.scores {
			if s.Group == "" {
				continue
			}
			known++
			if in[s.Group] == nil {
				in[s.Group] = map[string]bool{}
			}
			in[s.Group][s.Split] = true
		}
		var both []string
		for _, g := range slices.Sorted(maps.Keys(in)) {
			if in[g]["test"] && len(in[g]) > 1 {
				both = append(both, g)
			}
		}
		switch {
		case len(both) > 0:
			found = append(found, fmt.Sprintf("%s: %d patients or studies lie on both sides of the split, such as %s", set, len(both), both[0]))
		case known == 0 && len(r.scores) > 0:
			found = append(found, fmt.Sprintf("%s: patients and studies are unknown, so images of one may lie on both sides", set))
		}
	}
	return found
}

// negatives are sets whose "normal" images are known to be something else.
var negatives = []struct{ word, what string }{
	{"sars", "non-COVID scans of SARS-CoV-2-CT are of patients with other findings"},
	{"covidx", "negatives of COVIDx come from several sources and are not all healthy"},
	{"rsna", "RSNA has a class \"No Lung Opacity / Not Normal\" that studies count differently"},
}

func notHealthy(f *facts) (found []string) {
	told := map[string]bool{}
	for _, b := range f.blocks {
		for _, n := range negatives {
			text := strings.ToLower(b.name + " " + b.root)
			if strings.Contains(text, n.word) && !told[n.word] {
				told[n.word] = true
				found = append(found, fmt.Sprintf("%s: %s", b.name, n.what))
			}
		}
	}
	return found
}

// twice finds test images that get the same score from every seed of at least two
// rows that learn: that is hardly chance.
func twice(f *facts) (found []string) {
	for _, set := range f.sets {
		prints := map[string]string{}
		rows := map[string]bool{}
		for _, r := range f.of(set) {
			if r.Run.Family == trivial || saturatedShare(r) > saturated {
				continue
			}
			rows[r.Run.Label] = true
			for _, s := range r.scores {
				if s.Split == "test" {
					prints[s.Path] += strconv.FormatFloat(s.Score, 'g', -1, 64) + " "
				}
			}
		}
		if len(rows) < 2 {
			continue
		}
		first := map[string]string{}
		var pairs []string
		for _, path := range slices.Sorted(maps.Keys(prints)) {
			if other, ok := first[prints[path]]; ok {
				pairs = append(pairs, other+" and "+path)
			} else {
				first[prints[path]] = path
			}
		}
		if len(pairs) > 0 {
			found = append(found, fmt.Sprintf("%s: %d test images have the scores of another in every row: %s", set, len(pairs), strings.Join(pairs[:min(5, len(pairs))], "; ")))
		}
	}
	return found
}

// prevalence is the share of abnormal test images; NaN without any.
func (r run) prevalence() float64 {
	_, abnormal := r.test()
	n := 0
	for _, a := range abnormal {
		if a {
			n++
		}
	}
	return float64(n) / float64(len(abnormal))
}

func prevalences(f *facts) (found []string) {
	depends := slices.ContainsFunc(f.metrics, func(s metric.Spec) bool {
		base, _ := split(s)
		return slices.Contains([]string{"ap", "auprc", "f1", "acc", "prec"}, base)
	})
	if !depends {
		return nil
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, set := range f.sets {
		p := f.of(set)[0].prevalence()
		if math.IsNaN(p) {
			continue
		}
		low, high = min(low, p), max(high, p)
		for _, file := range f.files {
			for alternative := range strings.SplitSeq(file.Protocol.Split, ", ") {
				theirs, ok := splitPrevalence(alternative)
				if ok && math.Abs(theirs-p) > unlike && about(file, set) {
					found = append(found, fmt.Sprintf("%s: %.2f of the test images are abnormal, in %s (%s) %.2f", set, p, file.Source, alternative, theirs))
				}
			}
		}
	}
	if high-low > unlike {
		found = append(found, fmt.Sprintf("the share of abnormal test images goes from %.2f to %.2f between the data sets", low, high))
	}
	return found
}

// about reports whether a file has figures of a data set.
func about(file *published.File, set string) bool {
	return slices.ContainsFunc(file.Figures, func(g published.Figure) bool {
		return g.Data == set || strings.HasPrefix(set, g.Data+"-")
	})
}

// splitPrevalence reads training/normal/abnormal counts.
func splitPrevalence(text string) (float64, bool) {
	counts, _, _ := strings.Cut(text, " ")
	parts := strings.Split(counts, "/")
	if len(parts) != 3 {
		return 0, false
	}
	normal, err1 := strconv.ParseFloat(parts[1], 64)
	abnormal, err2 := strconv.ParseFloat(parts[2], 64)
	return abnormal / (normal + abnormal), err1 == nil && err2 == nil && normal+abnormal > 0
}

// trivials are the rows without which a figure says nothing.
var trivials = []string{"chance", "mean_intensity", "file_size"}

func confounding(f *facts) (found []string) {
	if f.Experiment != nil {
		var missing []string
		for _, name := range trivials {
			if !slices.ContainsFunc(f.rows, func(c configured) bool { return c.keys["name"] == name }) {
				missing = append(missing, name)
			}
		}
		if len(missing) > 0 {
			found = append(found, "the experiment lacks the trivial rows "+strings.Join(missing, ", "))
		}
	}
	for _, set := range f.sets {
		worst, label := 0., ""
		some := false
		for _, r := range f.of(set) {
			some = some || r.Run.Family == trivial
			scores, abnormal := r.test()
			if a, err := metric.AUROC(scores, abnormal); err == nil && r.Run.Family == trivial && a > worst {
				worst, label = a, r.Run.Label
			}
		}
		switch {
		case worst >= confounded:
			found = append(found, fmt.Sprintf("%s: %s alone has an AUROC of %.3f", set, label, worst))
		case !some && f.Experiment == nil:
			found = append(found, fmt.Sprintf("%s: no trivial row was run", set))
		}
	}
	return found
}

func batchDependence(f *facts) (found []string) {
	for _, c := range f.rows {
		for _, key := range []string{"score_stats", "score_statistics", "batch_norm"} {
			if v := c.keys[key]; v == "batch" || v == "train" {
				found = append(found, fmt.Sprintf("%s: %s = %q scores with the statistics of the batch", c.where, key, v))
			}
		}
	}
	for i, a := range f.runs {
		for _, b := range f.runs[i+1:] {
			if a.keys == nil || b.keys == nil || a.Run.Data != b.Run.Data || a.Run.Method != b.Run.Method || a.Run.Seed != b.Run.Seed {
				continue
			}
			if changed := changedKeys(a.keys, b.keys); len(changed) == 1 && changed[0] == "train.score_batch" && !sameScores(a, b) {
				found = append(found, fmt.Sprintf("%s and %s differ in train.score_batch only, and their scores differ", a.name(), b.name()))
			}
		}
	}
	return found
}

// changedKeys lists the keys of two configurations that differ, names left out.
func changedKeys(a, b map[string]string) []string {
	var out []string
	all := maps.Clone(a)
	maps.Copy(all, b)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if a[k] != b[k] && k != "title" && k != "experiment" && k != "method.label" && k != "data.name" {
			out = append(out, k)
		}
	}
	return out
}

func sameScores(a, b run) bool {
	at := map[string]float64{}
	low, high := math.Inf(1), math.Inf(-1)
	for _, s := range a.scores {
		at[s.Split+" "+s.Path] = s.Score
		low, high = min(low, s.Score), max(high, s.Score)
	}
	for _, s := range b.scores {
		if v, ok := at[s.Split+" "+s.Path]; ok && math.Abs(v-s.Score) > batchTolerance*(high-low) {
			return false
		}
	}
	return true
}

// saturatedShare is the share of test images that have the highest, or the lowest,
// score of all together with another image; the larger of the two.
func saturatedShare(r run) float64 {
	scores, _ := r.test()
	if len(scores) == 0 {
		return 0
	}
	top, bottom := 0, 0
	high, low := slices.Max(scores), slices.Min(scores)
	for _, s := range scores {
		if s == high {
			top++
		}
		if s == low {
			bottom++
		}
	}
	n := max(top, bottom)
	if n < 2 {
		return 0
	}
	return float64(n) / float64(len(scores))
}

func saturation(f *facts) (found []string) {
	for _, r := range f.runs {
		if share := saturatedShare(r); r.Run.Family != trivial && share > saturated {
			found = append(found, fmt.Sprintf("%s: %.0f %% of the test images share the highest or the lowest score", r.name(), 100*share))
		}
	}
	return found
}

// samePlaces finds maps that places, and not images, make up.
func samePlaces(f *facts) (found []string) {
	for _, r := range f.runs {
		if r.between > fixedPlaces {
			found = append(found, fmt.Sprintf("%s: %.0f %% of the variance of the test images' maps is the same in all of them", r.name(), 100*r.between))
		}
	}
	return found
}

// betweenPlaces is the share of the variance of all pixels of the maps that the mean
// map has: 1 if all maps are the same, 0 if they have no variance.
func betweenPlaces(m *record.Maps) float64 {
	mean := make([]float64, m.H*m.W)
	var centre, total, between float64
	for i := range m.N {
		for k, v := range m.At(i) { // sums of half precision are exact: maps of one value have no variance
			mean[k] += float64(v)
			centre += float64(v)
		}
	}
	for k := range mean {
		mean[k] /= float64(m.N)
	}
	centre /= float64(m.N * len(mean))
	for i := range m.N {
		for _, v := range m.At(i) {
			total += (float64(v) - centre) * (float64(v) - centre)
		}
	}
	if total == 0 {
		return 0
	}
	for _, v := range mean {
		between += (v - centre) * (v - centre) * float64(m.N)
	}
	return between / total
}

func otherAUROC(f *facts) []string { return otherDefinition(f, "auroc", "pixel-auroc") }

// otherDefinition finds figures recorded under another definition than their name has.
func otherDefinition(f *facts, bases ...string) (found []string) {
	for _, r := range f.runs {
		for _, g := range r.figures {
			spec, err := metric.Parse(g.Name)
			if err != nil {
				continue
			}
			if base, _ := split(spec); slices.Contains(bases, base) && g.ID != spec.ID() {
				found = append(found, fmt.Sprintf("%s: %s is recorded as %s, other rows have %s", r.name(), g.Name, g.ID, spec.ID()))
			}
		}
	}
	return found
}

func zeros(f *facts) (found []string) {
	for _, r := range f.runs {
		in, _ := record.Input(r.scores)
		for _, g := range r.figures {
			spec, err := metric.Parse(g.Name)
			if err != nil || !g.OK || g.Value != 0 {
				continue
			}
			if now := spec.Eval(in); spec.Pixel() || !now.OK || now.Value != 0 {
				found = append(found, fmt.Sprintf("%s: %s is recorded as exactly 0", r.name(), g.Name))
			}
		}
	}
	for _, p := range f.files {
		for _, g := range p.Figures {
			for _, word := range slices.Sorted(maps.Keys(g.Values)) {
				if g.Values[word].Mean == 0 {
					found = append(found, fmt.Sprintf("%s, %s, %s: %s is 0", p.Source, g.Table, g.Label, word))
				}
			}
		}
	}
	return found
}

func trapezoid(f *facts) (found []string) {
	for _, spec := range f.metrics {
		if base, _ := split(spec); strings.HasSuffix(base, "auprc") {
			found = append(found, fmt.Sprintf("%s is the area by trapezoids", spec.Name))
		}
	}
	return append(found, otherDefinition(f, "ap", "auprc", "pixel-ap", "pixel-auprc")...)
}

func auproVariants(f *facts) (found []string) {
	for _, p := range f.files {
		if slices.ContainsFunc(p.Figures, func(g published.Figure) bool {
			return slices.ContainsFunc(slices.Collect(maps.Keys(g.Values)), func(word string) bool { return strings.HasPrefix(word, "aupro") })
		}) {
			found = append(found, fmt.Sprintf("%s prints AUPRO; ours is exact, pooled, with 8-connected regions", p.Source))
		}
	}
	return append(found, otherDefinition(f, "aupro")...)
}

func diceVariants(f *facts) (found []string) {
	pools := map[string]bool{}
	for _, spec := range f.metrics {
		if base, _ := split(spec); strings.HasPrefix(base, "dice") || strings.HasPrefix(base, "iou") {
			var pool []string
			for _, option := range strings.Split(spec.Name, ":")[1:] {
				if option != "dilated" { // of the same pixels, beside the figure without
					pool = append(pool, option)
				}
			}
			if strings.HasSuffix(base, "-mean") {
				pool = append(pool, "mean per image")
			}
			slices.Sort(pool)
			pools[strings.Join(pool, " ")] = true
		}
	}
	if len(pools) > 1 {
		found = append(found, fmt.Sprintf("the table has %d pools of Dice or IoU side by side", len(pools)))
	}
	for _, set := range f.sets {
		grids := map[string]bool{}
		for _, r := range f.of(set) {
			if r.unopened != nil {
				found = append(found, r.unopened.Error())
			} else if r.grid != "" {
				grids[r.grid] = true
			}
		}
		if len(grids) > 1 {
			found = append(found, fmt.Sprintf("%s: maps on grids of %s", set, strings.Join(slices.Sorted(maps.Keys(grids)), " and ")))
		}
	}
	return append(found, otherDefinition(f, "dice", "dice-mean", "iou", "iou-mean")...)
}

func repeats(f *facts) (found []string) {
	if f.Experiment != nil && len(f.Experiment.Seeds) < leastSeeds {
		found = append(found, fmt.Sprintf("the experiment has %d seeds", len(f.Experiment.Seeds)))
	}
	for _, set := range f.sets {
		seeds := map[string]int{}
		for _, r := range f.of(set) {
			if r.Run.Family != trivial {
				seeds[r.Run.Label]++
			}
		}
		var few []string
		for _, label := range slices.Sorted(maps.Keys(seeds)) {
			if seeds[label] < leastSeeds {
				few = append(few, fmt.Sprintf("%s (%d)", label, seeds[label]))
			}
		}
		if len(few) > 0 {
			found = append(found, fmt.Sprintf("%s: rows of fewer than %d complete seeds: %s", set, leastSeeds, strings.Join(few, ", ")))
		}
	}
	return found
}

func contamination(f *facts) (found []string) {
	for _, b := range f.blocks {
		if b.contamination > 0 {
			found = append(found, fmt.Sprintf("%s: contamination = %g", b.name, b.contamination))
		}
	}
	for _, c := range f.rows {
		for _, key := range []string{"contamination", "train.contamination", "data.contamination", "vary.data.contamination"} {
			most := 0.
			for _, word := range strings.Fields(strings.Trim(c.keys[key], "[]")) { // vary has a list of them
				if v, err := strconv.ParseFloat(word, 64); err == nil {
					most = max(most, v)
				}
			}
			if most > 0 {
				found = append(found, fmt.Sprintf("%s: %s = %s", c.where, key, c.keys[key]))
			}
		}
	}
	for _, r := range f.runs {
		n := 0
		for _, s := range r.scores {
			if s.Split != "test" && s.Abnormal {
				n++
			}
		}
		if n > 0 {
			found = append(found, fmt.Sprintf("%s: %d abnormal images in training or validation", r.name(), n))
		}
	}
	return found
}

func otherTraining(f *facts) (found []string) {
	for _, set := range f.sets {
		versions, splits := map[string]bool{}, map[string]bool{}
		for _, r := range f.of(set) {
			if r.Run.Fingerprint != (record.Fingerprint{}) {
				versions[r.Run.Fingerprint.SHA256] = true
			}
			if r.Run.SplitRule != "" {
				splits[r.Run.SplitRule] = true
			}
		}
		if len(versions) > 1 {
			found = append(found, fmt.Sprintf("%s: the rows saw %d versions of the images", set, len(versions)))
		}
		if len(splits) > 1 {
			found = append(found, fmt.Sprintf("%s: the rows have %d splits: %s", set, len(splits), strings.Join(slices.Sorted(maps.Keys(splits)), " / ")))
		}
	}
	return found
}

func uncounted(f *facts) (found []string) {
	for _, r := range f.runs {
		if r.Run.Trained && r.Run.Steps > 0 && r.Run.Parameters == 0 {
			found = append(found, fmt.Sprintf("%s: trained for %d steps, but no parameters were counted", r.name(), r.Run.Steps))
		}
	}
	return found
}

func mixedSelection(f *facts) (found []string) {
	rules := map[string]string{}
	for _, c := range f.rows {
		if s := c.selection(); rules[s] == "" {
			rules[s] = c.where
		}
	}
	if len(rules) > 1 {
		var parts []string
		for _, s := range slices.Sorted(maps.Keys(rules)) {
			parts = append(parts, fmt.Sprintf("%s (%s)", s, rules[s]))
		}
		found = append(found, "rows of unlike selection: "+strings.Join(parts, ", "))
	}
	for _, p := range f.files {
		if s := p.Protocol.Selection; len(f.rows) > 0 && rules[s] == "" && s != published.Unknown {
			found = append(found, fmt.Sprintf("%s selects by %s, none of our rows does", p.Source, s))
		}
	}
	return found
}

func smallValidation(f *facts) (found []string) {
	for _, set := range f.sets {
		n := 0
		for _, s := range f.of(set)[0].scores {
			if s.Split == "validation" {
				n++
			}
		}
		if n > 0 && n < leastValidation {
			found = append(found, fmt.Sprintf("%s: %d validation images", set, n))
		}
	}
	return found
}
