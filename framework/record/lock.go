package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked is the error of [Folder.Lock] when another process works on the run.
var ErrLocked = errors.New("another process works on this run")

// Owner says who holds a run's lock file.
type Owner struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Started time.Time `json:"started"` // when the lock was taken
}

func (o Owner) String() string {
	return fmt.Sprintf("process %d on %s since %s", o.PID, o.Host, o.Started.Format(time.DateTime))
}

// lockName is the lock file of a run folder.
const lockName = "lock"

// Lock takes the run for this process, or refuses with [ErrLocked] and the name
// of the owner. The file holds pid, host and time and is locked by flock(2), which
// the kernel releases when the owner ends, so a lock that a killed process of this
// host left behind is recognised, even where its pid was given away again, and
// taken over. One of another host is always refused: its owner cannot be seen
// from here. Half-written files of the previous owner are removed.
func (f *Folder) Lock() error {
	if f.lock != nil {
		return fmt.Errorf("lock %s: %w: this one", f.Dir, ErrLocked)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Dir, err)
	}
	file, err := f.acquire(host)
	if err != nil {
		return err
	}
	b, err := json.Marshal(Owner{PID: os.Getpid(), Host: host, Started: time.Now().Round(time.Second)})
	if err == nil {
		_, err = file.WriteAt(append(b, '\n'), 0)
	}
	if err == nil {
		err = file.Truncate(int64(len(b) + 1))
	}
	if err == nil {
		err = errors.Join(removeTemps(f.Dir), removeTemps(f.Path("maps")))
	}
	if err != nil {
		file.Close()
		return fmt.Errorf("lock %s: %w", f.Dir, err)
	}
	f.lock = file
	return nil
}

// acquire opens the lock file and locks it.
func (f *Folder) acquire(host string) (*os.File, error) {
	path := f.Path(lockName)
	for attempt := 1; ; attempt++ {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", f.Dir, err)
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		owner, known := readOwner(file)
		switch {
		case errors.Is(err, unix.EWOULDBLOCK) && attempt < 5:
			file.Close() // it may be [Folder.Locked] of a reader, which takes microseconds
			time.Sleep(10 * time.Millisecond)
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			file.Close()
			if !known {
				return nil, fmt.Errorf("lock %s: %w", f.Dir, ErrLocked)
			}
			return nil, fmt.Errorf("lock %s: %w: %s; wait for it or stop it", f.Dir, ErrLocked, owner)
		case err != nil:
			file.Close()
			return nil, fmt.Errorf("lock %s: %w; keep results on a file system with flock", f.Dir, err)
		case known && owner.Host != host:
			file.Close()
			return nil, fmt.Errorf("lock %s: %w: %s; if it has ended, remove %s", f.Dir, ErrLocked, owner, path)
		}
		// The file may have been unlinked by its owner between our open and our lock.
		ours, err1 := file.Stat()
		named, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(ours, named) {
			return file, nil
		}
		file.Close()
	}
}

// readOwner reads the content of a lock file; false where its owner was killed
// before writing it.
func readOwner(file *os.File) (Owner, bool) {
	var o Owner
	b, err := io.ReadAll(io.NewSectionReader(file, 0, 4096))
	if err != nil || json.Unmarshal(b, &o) != nil || o.PID == 0 {
		return Owner{}, false
	}
	return o, true
}

// Unlock gives the run back and removes the lock file; without a lock it does nothing.
func (f *Folder) Unlock() error {
	if f.lock == nil {
		return nil
	}
	file := f.lock
	f.lock = nil
	return errors.Join(os.Remove(file.Name()), file.Close())
}

// Locked returns the owner of the run while a process works on it. A lock file of
// another host counts as held.
func (f *Folder) Locked() (Owner, bool) {
	file, err := os.Open(f.Path(lockName))
	if err != nil {
		return Owner{}, false
	}
	defer file.Close()
	owner, known := readOwner(file)
	if err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return owner, errors.Is(err, unix.EWOULDBLOCK)
	}
	host, err := os.Hostname()
	return owner, known && err == nil && owner.Host != host
}
