//go:build !reports

package main

import (
	"embed"

	"thorax/framework/command"

	// The methods. Each registers itself; nothing else imports them.
	_ "thorax/baselines/reconstruction"
)

//go:embed baselines graphs/optim graphs/backbone
var sources embed.FS

func init() { command.Sources = sources }
