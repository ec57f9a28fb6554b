//go:build reports

package command

// tensorflowCommands is empty in a program built to read results only.
type tensorflowCommands struct{}
