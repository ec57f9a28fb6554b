package record

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"thorax/framework/metric"
)

// Score is one line of scores.csv: the image score of one image, higher is more
// anomalous.
type Score struct {
	Split    string // "train", "validation" or "test"
	Path     string // relative to the data set's root, with '/'
	Group    string // patient or volume; "" where unknown
	Subtype  string // of an abnormal image; "" where unknown
	Abnormal bool
	Score    float64 // finite
}

// Input is what metrics of images and studies are computed from, and the paths of the
// test images in its order.
func Input(scores []Score) (in metric.Input, paths []string) {
	for _, s := range scores {
		switch s.Split {
		case "test":
			in.Scores, in.Abnormal = append(in.Scores, s.Score), append(in.Abnormal, s.Abnormal)
			in.Groups, in.Subtypes = append(in.Groups, s.Group), append(in.Subtypes, s.Subtype)
			paths = append(paths, s.Path)
		case "validation":
			in.Validation = append(in.Validation, s.Score)
			in.ValidationAbnormal = append(in.ValidationAbnormal, s.Abnormal)
			in.ValidationGroups = append(in.ValidationGroups, s.Group)
		}
	}
	if !slices.Contains(in.ValidationAbnormal, true) {
		in.ValidationAbnormal = nil // a labelled validation set has abnormal images
	}
	return in, paths
}

var scoresHeader = []string{"split", "path", "group", "subtype", "label", "score"}

// WriteScores replaces scores.csv, in the given order. Scores have nine
// significant digits, enough for a float32 to come back the same, so equal scores
// give equal bytes. A score that is not finite, an empty path and an image given
// twice in a split are errors that name the image.
func (f *Folder) WriteScores(scores []Score) error {
	return f.WriteFile("scores.csv", func(w io.Writer) error { return WriteScores(w, scores) })
}

// Scores reads scores.csv. A missing file is [os.ErrNotExist].
func (f *Folder) Scores() ([]Score, error) {
	b, err := os.ReadFile(f.Path("scores.csv"))
	if err != nil {
		return nil, err
	}
	scores, err := ReadScores(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Path("scores.csv"), err)
	}
	return scores, nil
}

// WriteScores writes scores in the form of scores.csv; see [Folder.WriteScores].
func WriteScores(w io.Writer, scores []Score) error {
	if err := checkScores(scores, func(i int) string { return fmt.Sprintf("score %d", i+1) }); err != nil {
		return err
	}
	out := csv.NewWriter(w)
	if err := out.Write(scoresHeader); err != nil {
		return err
	}
	for _, s := range scores {
		label := "normal"
		if s.Abnormal {
			label = "abnormal"
		}
		if err := out.Write([]string{s.Split, s.Path, s.Group, s.Subtype, label,
			strconv.FormatFloat(s.Score, 'g', 9, 64)}); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// ReadScores reads what [WriteScores] wrote and refuses what it would refuse; the
// errors name the line.
func ReadScores(r io.Reader) ([]Score, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = len(scoresHeader)
	header, err := in.Read()
	if err == io.EOF {
		return nil, fmt.Errorf("no header, need %s", strings.Join(scoresHeader, ","))
	}
	if err != nil {
		return nil, err
	}
	if !slices.Equal(header, scoresHeader) {
		return nil, fmt.Errorf("header %s, need %s", strings.Join(header, ","), strings.Join(scoresHeader, ","))
	}
	var scores []Score
	var lines []int
	for {
		record, err := in.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		line, _ := in.FieldPos(0)
		s := Score{Split: record[0], Path: record[1], Group: record[2], Subtype: record[3]}
		switch record[4] {
		case "normal":
		case "abnormal":
			s.Abnormal = true
		default:
			return nil, fmt.Errorf("line %d: label %q, need normal or abnormal", line, record[4])
		}
		if s.Score, err = strconv.ParseFloat(record[5], 64); err != nil {
			return nil, fmt.Errorf("line %d: score %q is not a number", line, record[5])
		}
		scores, lines = append(scores, s), append(lines, line)
	}
	return scores, checkScores(scores, func(i int) string { return fmt.Sprintf("line %d", lines[i]) })
}

func checkScores(scores []Score, place func(int) string) error {
	type image struct{ split, path string }
	seen := make(map[image]int, len(scores))
	for i, s := range scores {
		switch first, twice := seen[image{s.Split, s.Path}]; {
		case s.Split != "train" && s.Split != "validation" && s.Split != "test":
			return fmt.Errorf("%s: %s: split %q, need train, validation or test", place(i), s.Path, s.Split)
		case s.Path == "":
			return fmt.Errorf("%s: no image path", place(i))
		case strings.Contains(s.Path+s.Group+s.Subtype, "\r"):
			return fmt.Errorf("%s: %q holds a carriage return; rename it", place(i), s.Path)
		case math.IsNaN(s.Score) || math.IsInf(s.Score, 0):
			return fmt.Errorf("%s: the score of %s is %g, need a finite number", place(i), s.Path, s.Score)
		case twice:
			return fmt.Errorf("%s: %s is in split %s twice, first at %s", place(i), s.Path, s.Split, place(first))
		}
		seen[image{s.Split, s.Path}] = i
	}
	return nil
}
