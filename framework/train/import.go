package train

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"thorax/framework/record"
	"thorax/graphs/weights"
)

// Import makes a finished run of variables that another program learnt, and scores the job's data set if it has
// one. A folder that holds a run already is an error.
func (j *Job) Import(ctx context.Context, variables map[string]weights.Array) error {
	folder, err := record.Create(j.Dir())
	if err != nil {
		return err
	}
	if _, err := folder.Config(); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s holds a run already: give another label, or remove it", j.Dir())
	}
	dir := folder.Path("checkpoint")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := weights.SaveSafetensors(filepath.Join(dir, finalName), variables, position{phase: 1}.meta()); err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	_, err = j.Do(ctx)
	return err
}
