package config

import (
	"fmt"
	"strconv"
	"strings"
)

// positions maps the path of every table, key and array element of a TOML
// document to its byte offset. A path joins keys by dots and counts elements
// from 0, for arrays of tables too: "method[1].train.steps". The text must be
// valid TOML; on other text the result is incomplete, never a panic.
func positions(text string) map[string]int {
	s := scanner{text: text, at: map[string]int{}, tables: map[string]int{}}
	s.document()
	return s.at
}

// scanner walks TOML text that a parser has accepted, so it need not judge it.
type scanner struct {
	text   string
	i      int
	at     map[string]int // path to offset
	tables map[string]int // path of an array of tables to its length so far
}

func (s *scanner) document() {
	table := ""
	for s.blank(); s.i < len(s.text); s.blank() {
		before := s.i
		if s.text[s.i] != '[' {
			s.pair(table)
		} else {
			s.i++
			array := s.skip('[')
			table = s.header(before, array)
			s.skip(']')
			s.skip(']')
		}
		if s.i == before {
			s.i++ // not TOML: go on rather than stand still
		}
	}
}

// header reads the keys of [table] or [[table]] and returns the path they mean.
func (s *scanner) header(start int, array bool) string {
	keys := s.key()
	path := ""
	for i, k := range keys {
		path = join(path, k)
		if array && i == len(keys)-1 {
			s.mark(path, start)
			s.tables[path]++
		}
		if n := s.tables[path]; n > 0 {
			path = element(path, n-1)
		}
		s.mark(path, start)
	}
	return path
}

// pair reads key = value inside the table at path.
func (s *scanner) pair(path string) {
	start := s.i
	for _, k := range s.key() {
		path = join(path, k)
		s.mark(path, start)
	}
	if s.skip('=') {
		s.value(path)
	}
}

// value reads one value and marks what is inside it.
func (s *scanner) value(path string) {
	s.blank()
	if s.i >= len(s.text) {
		return
	}
	switch s.text[s.i] {
	case '"', '\'':
		s.quoted()
	case '[':
		s.list(']', func(n int) {
			s.mark(element(path, n), s.i)
			s.value(element(path, n))
		})
	case '{':
		s.list('}', func(int) { s.pair(path) })
	default:
		for s.i < len(s.text) && !strings.ContainsRune(",]}#\r\n", rune(s.text[s.i])) {
			s.i++
		}
	}
}

// list reads the items of an array or of an inline table up to its closing byte.
func (s *scanner) list(closing byte, item func(n int)) {
	s.i++
	for n := 0; ; n++ {
		s.blank()
		if s.i >= len(s.text) || s.skip(closing) {
			return
		}
		before := s.i
		item(n)
		s.blank()
		if !s.skip(',') && s.i == before {
			return
		}
	}
}

// key reads a dotted key and returns its parts.
func (s *scanner) key() []string {
	var keys []string
	for {
		s.blank()
		if s.i >= len(s.text) {
			return keys
		}
		if c := s.text[s.i]; c == '"' || c == '\'' {
			keys = append(keys, s.quoted())
		} else {
			start := s.i
			for s.i < len(s.text) && bareKey(s.text[s.i]) {
				s.i++
			}
			keys = append(keys, s.text[start:s.i])
		}
		if !s.skip('.') {
			return keys
		}
	}
}

// quoted reads a string of any of TOML's four kinds; escapes are resolved only
// for the kind that may be a key.
func (s *scanner) quoted() string {
	start, c := s.i, s.text[s.i]
	if triple := strings.Repeat(string(c), 3); strings.HasPrefix(s.text[s.i:], triple) {
		for s.i += 3; s.i < len(s.text); s.i++ {
			if c == '"' && s.text[s.i] == '\\' {
				s.i++
			} else if strings.HasPrefix(s.text[s.i:], triple) {
				for s.i < len(s.text) && s.text[s.i] == c { // up to two quotes may precede the end
					s.i++
				}
				break
			}
		}
		return ""
	}
	for s.i++; s.i < len(s.text) && s.text[s.i] != c && s.text[s.i] != '\n'; s.i++ {
		if c == '"' && s.text[s.i] == '\\' {
			s.i++
		}
	}
	s.i = min(s.i+1, len(s.text))
	raw := s.text[start:s.i]
	if c == '"' {
		if plain, err := strconv.Unquote(raw); err == nil {
			return plain
		}
	}
	return strings.Trim(raw, string(c))
}

// blank skips white space, line ends and comments.
func (s *scanner) blank() {
	for s.i < len(s.text) {
		switch s.text[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		case '#':
			for s.i < len(s.text) && s.text[s.i] != '\n' {
				s.i++
			}
		default:
			return
		}
	}
}

// skip passes one byte c, after blanks, and reports whether it was there.
func (s *scanner) skip(c byte) bool {
	for s.i < len(s.text) && (s.text[s.i] == ' ' || s.text[s.i] == '\t') {
		s.i++
	}
	if s.i < len(s.text) && s.text[s.i] == c {
		s.i++
		return true
	}
	return false
}

// mark keeps the first place of a path.
func (s *scanner) mark(path string, offset int) {
	if _, ok := s.at[path]; !ok {
		s.at[path] = offset
	}
}

func bareKey(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func element(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
