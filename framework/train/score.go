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
	in := metric.Input{W: r.Data.Size(), H: r.Data.Size()}
	pixel := r.Data.HasMasks()
	start, n := time.Now(), 0
	var kept *record.Maps
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
			scores = append(scores, record.Score{
				Split: split.String(), Path: item.Path, Group: item.Group, Subtype: item.Subtype, Abnormal: item.Abnormal, Score: score,
			})
			switch {
			case m == nil:
			case split == data.Test && (pixel || r.Maps):
				in.Maps = append(in.Maps, slices.Clone(m))
			case split == data.Validation && pixel:
				in.ValidationMaps = append(in.ValidationMaps, slices.Clone(m))
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
	for _, s := range scores {
		if s.Split == data.Test.String() {
			in.Scores, in.Abnormal = append(in.Scores, s.Score), append(in.Abnormal, s.Abnormal)
		} else {
			in.Validation = append(in.Validation, s.Score)
		}
	}
	if r.Maps && len(in.Maps) > 0 {
		kept = record.NewMaps(len(in.Maps), in.H, in.W)
		for i, m := range in.Maps {
			if err := kept.Set(i, m); err != nil {
				return err
			}
		}
		if err := r.folder.WriteMaps(data.Test.String(), kept); err != nil {
			return err
		}
	}
	if pixel && len(in.Maps) > 0 {
		for i := range in.Maps {
			mask, err := r.Data.Mask(data.Test, i)
			if err != nil {
				return err
			}
			if mask == nil {
				mask = make([]bool, in.W*in.H)
			}
			in.Masks = append(in.Masks, mask)
		}
	} else {
		in.Maps, in.ValidationMaps = nil, nil
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

type silent struct{}

func (silent) Phase(string, int, int)                {}
func (silent) Step(int, map[string]float64, float64) {}
func (silent) Note(string)                           {}
