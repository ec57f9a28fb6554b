package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A cache file is a header, then the images, then the masks of the images that have one, each size×size
// bytes, in the order of the items. Header: magic [8], key [32], side, images, masks uint32, CRC-32C of what
// follows uint32, all little-endian, zeros to headerSize.
const (
	magic      = "thorax01"
	headerSize = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// cache is a packed file of decoded images, mapped into memory.
type cache struct {
	data   []byte
	side   int
	n      int
	masks  []int // place of each item's mask, -1 for none
	unmap  func() error
	closed sync.Once
}

func (c *cache) image(i int) []uint8 {
	at := headerSize + i*c.side*c.side
	return c.data[at : at+c.side*c.side : at+c.side*c.side]
}

// mask is nil for an item without one.
func (c *cache) mask(i int) []uint8 {
	if c.masks[i] < 0 {
		return nil
	}
	return c.image(c.n + c.masks[i])
}

func (c *cache) close() (err error) {
	c.closed.Do(func() { c.data = nil; err = c.unmap() })
	return err
}

// openCache maps the cache of the items at the geometry of o, and fills it first if it is not there.
// sum identifies the content of the files.
func openCache(dir string, o Options, src source, items []Item, sum string) (*cache, error) {
	c := &cache{side: o.Size, n: len(items), masks: make([]int, len(items))}
	masks := 0
	key := sha256.New()
	fmt.Fprintln(key, magic, o.Size, o.Resize, o.Fit, sum)
	if o.Window != nil {
		fmt.Fprintf(key, "window %+v\n", *o.Window)
	}
	for i, it := range items {
		c.masks[i] = -1
		if it.Mask != "" {
			c.masks[i] = masks
			masks++
		}
		fmt.Fprintf(key, "%q %q\n", it.Path, it.Mask)
	}
	header := make([]byte, headerSize)
	copy(header, magic)
	key.Sum(header[8:8])
	for i, v := range []int{c.side, c.n, masks} {
		binary.LittleEndian.PutUint32(header[40+4*i:], uint32(v))
	}
	name := filepath.Join(dir, "images-"+hex.EncodeToString(header[8:24])+".cache")
	if c.open(name, header, masks) == nil {
		return c, nil
	}
	if err := c.fill(name, header, o, src, items); err != nil {
		return nil, fmt.Errorf("data %s: %w", o.Name, err)
	}
	lines, err := src.manifest(dir, items)
	if err != nil {
		return nil, err
	}
	if _, again := fingerprint(lines); again != sum {
		os.Remove(name)
		return nil, fmt.Errorf("data %s: files changed while they were read; wait until they are complete and start again", o.Name)
	}
	if err := c.open(name, header, masks); err != nil {
		return nil, fmt.Errorf("data %s: %w", o.Name, err)
	}
	return c, nil
}

// open maps a complete cache file whose header and checksum are right.
func (c *cache) open(name string, header []byte, masks int) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if want := int64(headerSize) + int64(c.n+masks)*int64(c.side)*int64(c.side); info.Size() != want {
		return fmt.Errorf("cache %s: %d bytes, want %d", name, info.Size(), want)
	}
	b, unmap, err := mapFile(f, int(info.Size()))
	if err != nil {
		return fmt.Errorf("map %s: %w", name, err)
	}
	sum := crc32.Checksum(b[headerSize:], castagnoli)
	if string(b[:52]) != string(header[:52]) || binary.LittleEndian.Uint32(b[52:]) != sum {
		unmap()
		return fmt.Errorf("cache %s: damaged; remove it", name)
	}
	c.data, c.unmap = b, unmap
	return nil
}

// fill decodes all items in parallel into a new file.
func (c *cache) fill(name string, header []byte, o Options, src source, items []Item) error {
	sweep(filepath.Dir(name))
	g := o.geometry()
	area := int64(c.side) * int64(c.side)
	return writeAtomic(name, func(f *os.File) error {
		var mu sync.Mutex
		done := 0
		err := parallel(len(items), func(i int) error {
			it := items[i]
			p, err := src.load(it)
			if err != nil {
				return err
			}
			if _, err := f.WriteAt(g.image(p.W, p.H, p.V), headerSize+int64(i)*area); err != nil {
				return err
			}
			if place := c.masks[i]; place >= 0 {
				m := p.mask
				if m.err != nil {
					return m.err
				}
				if m.w != p.W || m.h != p.H {
					return fmt.Errorf("mask %s: %d×%d, its image %s is %d×%d; make the mask on the grid of its image",
						it.Mask, m.w, m.h, it.Path, p.W, p.H)
				}
				if _, err := f.WriteAt(bytesOf(g.mask(m.w, m.h, m.bits)), headerSize+int64(c.n+place)*area); err != nil {
					return err
				}
			}
			if o.Progress != nil {
				mu.Lock()
				defer mu.Unlock()
				done++
				o.Progress(done, len(items))
			}
			return nil
		})
		if err != nil {
			return err
		}
		sum := crc32.New(castagnoli)
		if _, err := f.Seek(headerSize, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(sum, f); err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(header[52:], sum.Sum32())
		_, err = f.WriteAt(header, 0)
		return err
	})
}

// abandoned is the age at which a temporary file is taken for that of a killed process: one that is still
// written to is younger.
const abandoned = time.Hour

// sweep removes what killed processes left; what cannot be removed does no harm.
func sweep(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, ".tmp-*"))
	for _, name := range left {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > abandoned {
			os.Remove(name)
		}
	}
}

func bytesOf(bits []bool) []byte {
	b := make([]byte, len(bits))
	for i, on := range bits {
		if on {
			b[i] = 255
		}
	}
	return b
}
