package data

// ReadNative decodes one file at its stored size.
func ReadNative(path string) (Native, error) {
	n, _, err := readImage(path)
	return n, err
}
