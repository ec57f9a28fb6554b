package train

import (
	"fmt"
	"math"
	"slices"
	"time"

	"thorax/framework/data"
	"thorax/framework/metric"
	"thorax/framework/record"
)

// score scores the validation normals and the test images by scan, which calls
// each once for every image of a split in order, and writes scores, figures
// and maps.
func (r *runner) score(scan func(split data.Split, each func(i int, score float64, m []float32) error) error) error {
	var scores []record.Score
	kept := map[data.Split][][]float32{} // anomaly maps
	pixel := r.Data.HasMasks() || r.Data.HasLungs()
	start, n := time.Now(), 0
	for _, split := range []data.Split{data.Validation, data.Test} {
		items := r.Data.Items(split)
		if len(items) == 0 {
			continue
		}
		r.Progress.Phase("scoring "+split.String(), 0, len(items))
		err := scan(split, func(i int, score float64, m []float32) error {
			item := items[i]
			if math.IsNaN(score) || math.IsInf(score, 0) {
				return fmt.Errorf("the score of %s is %g", item.Path, score)
			}
			if !finite(m) {
				return fmt.Errorf("the anomaly map of %s is not finite", item.Path)
			}
			scores = append(scores, scoreOf(item, split, score))
			if m != nil && (pixel || r.Maps && split == data.Test) {
				kept[split] = append(kept[split], slices.Clone(m))
			}
			n++
			r.Progress.Step(i+1, nil, 0)
			return nil
		})
		if err != nil {
			return err
		}
	}
	r.run.ScoreSeconds = time.Since(start).Seconds()
	if n > 0 {
		r.run.MsPerImage = 1000 * r.run.ScoreSeconds / float64(n)
	}
	in, _ := record.Input(scores)
	in.W, in.H = r.Data.Size(), r.Data.Size()
	for _, split := range []data.Split{data.Validation, data.Test} { // thresholds of pixels come from the former
		maps := kept[split]
		if maps == nil || !r.Maps {
			continue
		}
		packed := record.NewMaps(len(maps), in.H, in.W)
		for i, m := range maps {
			if err := packed.Set(i, m); err != nil {
				return err
			}
		}
		if err := r.folder.WriteMaps(split.String(), packed); err != nil {
			return err
		}
	}
	if err := r.regions(&in, kept); err != nil {
		return err
	}
	figures := metric.EvalAll(r.Metrics, in)
	for _, f := range figures {
		r.run.MetricIDs = append(r.run.MetricIDs, f.ID)
	}
	if err := r.folder.WriteScores(scores); err != nil {
		return err
	}
	return r.folder.WriteFigures(figures)
}

func scoreOf(item data.Item, split data.Split, score float64) record.Score {
	return record.Score{
		Split: split.String(), Path: item.Path, Group: item.Group, Subtype: item.Subtype, Abnormal: item.Abnormal, Score: score,
	}
}

// regions adds the maps, the lesions and, where a metric asks for them, the lungs.
func (r *runner) regions(in *metric.Input, maps map[data.Split][][]float32) (err error) {
	if maps[data.Test] == nil {
		return nil
	}
	in.Maps, in.ValidationMaps = maps[data.Test], maps[data.Validation]
	if r.Data.HasMasks() {
		left := 0
		for i := range in.Maps {
			mask, err := r.Data.Mask(data.Test, i)
			if err != nil {
				return err
			}
			if mask == nil && in.Abnormal[i] {
				left++
			}
			in.Masks = append(in.Masks, mask)
		}
		if left > 0 {
			r.run.Notes = append(r.run.Notes, fmt.Sprintf("pixel metrics leave out %d abnormal test images without a mask", left))
		}
	}
	if !r.Data.HasLungs() || !slices.ContainsFunc(r.Metrics, metric.Spec.Lungs) {
		return nil
	}
	if in.Lungs, err = r.Data.AllLungs(data.Test); err != nil {
		return err
	}
	in.ValidationLungs, err = r.Data.AllLungs(data.Validation)
	return err
}

type silent struct{}

func (silent) Phase(string, int, int)                {}
func (silent) Step(int, map[string]float64, float64) {}
func (silent) Note(string)                           {}
