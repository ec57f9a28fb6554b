//go:build !reports

package command

import (
	"fmt"

	"thorax/framework/bench"
)

type benchCmd struct {
	ZhangLab string   `name:"zhanglab" help:"Folder of the ZhangLab set; without it some figures are left out." default:"data/zhanglab" type:"path"`
	Threads  int      `help:"Threads of TensorFlow." default:"2"`
	Only     []string `help:"Methods to measure; default all." placeholder:"METHOD"`
}

func (benchCmd) Help() string {
	return "Close everything else first: goals are ratios, but a busy machine blurs them." + example("thorax bench")
}

func (c *benchCmd) Run(a *app) error {
	results, err := bench.Run(a.ctx, a.stdout, bench.Options{ZhangLab: c.ZhangLab, Cache: a.Cache, Threads: c.Threads, Only: c.Only})
	if err != nil {
		return err
	}
	missed := 0
	for _, r := range results {
		if !r.Met() {
			missed++
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d goals missed", missed, len(results))
	}
	return nil
}
