//go:build !reports

package main

import (
	"embed"

	"thorax/framework/command"

	// The methods. Each registers itself; nothing else imports them.
	_ "thorax/baselines/feature"
	_ "thorax/baselines/reconstruction"
	_ "thorax/baselines/synthesis"
	_ "thorax/baselines/trivial"
	_ "thorax/graphs/proposed"
)

//go:embed baselines graphs/optim graphs/backbone graphs/inpaint graphs/quantise graphs/salient graphs/proposed
var sources embed.FS

func init() { command.Sources = sources }
