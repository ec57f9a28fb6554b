package metric

// Draw calls use once for each resample with the number of times that each test image
// occurs in it, for what Run does not compute, such as curves. The slice is only valid
// during the call; the resamples are those of Run with the same settings. Errors: a
// number of groups that does not fit.
func (b Bootstrap) Draw(abnormal []bool, use func(times []int)) error {
	if b.Resamples == 0 {
		b.Resamples = 2000
	}
	s, err := newSampler(abnormal, b.Groups, b.Seed)
	if err != nil {
		return err
	}
	for range b.Resamples {
		s.draw()
		use(s.times)
	}
	return nil
}
