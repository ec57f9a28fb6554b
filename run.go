// Command thorax compares methods of unsupervised anomaly detection on chest
// images: an experiment file in, tables and plots out.
package main

import "thorax/framework/command"

func main() { command.Main() }
