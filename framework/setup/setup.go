// Package setup holds fetch.sh, which fetches libtensorflow and backbone
// weights into .thorax/, and its tests.
package setup
