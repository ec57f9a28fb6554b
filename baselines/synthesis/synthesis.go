// Package synthesis holds methods that learn from normal images and synthetic
// anomalies made of them.
package synthesis
