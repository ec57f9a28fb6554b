//go:build !reports

package command

// tensorflowCommands are the commands that need TensorFlow.
type tensorflowCommands struct {
	Run    runCmd    `cmd:"" group:"train" help:"Train and score every run of an experiment, then print its table. Goes on where it stopped."`
	Plan   planCmd   `cmd:"" group:"train" help:"Show what run would do: what is done, stale or failed and why, with time and memory from earlier runs."`
	List   listCmd   `cmd:"" group:"train" help:"List the methods."`
	Show   showCmd   `cmd:"" group:"train" help:"Show a method's source, parameters, defaults and ranges."`
	Model  importCmd `cmd:"" group:"train" name:"import" help:"Turn an official checkpoint into a finished run that scores images."`
	Score  scoreCmd  `cmd:"" group:"train" help:"Score new images with a finished run: a CSV and map overlays."`
	Export exportCmd `cmd:"" group:"train" help:"Write a finished run's weights as safetensors."`
	Doctor doctorCmd `cmd:"" group:"machine" help:"Print versions, devices, what is missing, and the command that repairs it."`
	Bench  benchCmd  `cmd:"" group:"machine" help:"Measure speed against the stated goals; exits 1 on a miss."`
}
